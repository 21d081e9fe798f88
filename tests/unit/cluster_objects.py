"""Small builders of nodes and pod manifests for the tests of the cluster room."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from testbed.cluster.assign import EdgeNode


def edge_nodes(count: int, locations: int = 1) -> list[EdgeNode]:
    """Nodes n1, n2, ... spread over leaf1, leaf2, ..."""
    base = IPv4Address("192.168.1.10")
    return [EdgeNode(f"n{i}", base + i, {}, f"leaf{(i - 1) % locations + 1}") for i in range(1, count + 1)]


def pod(name: str, namespace: str | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod manifest as a person writes it."""
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    containers = [{"name": "main", "image": "busybox", "command": ["sleep", "inf"]}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers, **spec}}


def config_map(name: str, namespace: str = "default", **data: str) -> dict[str, Any]:
    """A ConfigMap manifest."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def service(name: str, namespace: str = "default", **spec: Any) -> dict[str, Any]:
    """A Service manifest as a person writes it: port 80, selector ``app: NAME``."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80}], **spec},
    }


def endpoint_slice(
    service_name: str, *addresses: str, namespace: str = "default", suffix: str = "x", target_port: int = 8080
) -> dict[str, Any]:
    """A slice for a Service with one port without a name; all endpoints are ready, on node n1."""
    endpoints = [{"addresses": [address], "conditions": {"ready": True}, "nodeName": "n1"} for address in addresses]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{service_name}-{suffix}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": service_name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": "TCP", "port": target_port}],
        "endpoints": endpoints,
    }


def deployment(name: str, replicas: int = 1, namespace: str = "default", **pod_spec: Any) -> dict[str, Any]:
    """A Deployment manifest whose pods are labelled ``app: NAME``."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "main", "image": "busybox", "command": ["sleep"]}], **pod_spec},
            },
        },
    }


def stateful_set(name: str, replicas: int = 1, **spec: Any) -> dict[str, Any]:
    """A StatefulSet manifest whose pods are labelled ``app: NAME``, with the Service NAME."""
    wire = deployment(name, replicas)
    wire["spec"] |= {"serviceName": name, **spec}
    return {**wire, "kind": "StatefulSet"}


def daemon_set(name: str, **spec: Any) -> dict[str, Any]:
    """A DaemonSet manifest whose pods are labelled ``app: NAME``."""
    wire = deployment(name)
    del wire["spec"]["replicas"]
    wire["spec"] |= spec
    return {**wire, "kind": "DaemonSet"}


def job(name: str, restart_policy: str = "Never", **spec: Any) -> dict[str, Any]:
    """A Job manifest."""
    containers = [{"name": "main", "image": "busybox", "command": ["true"]}]
    template = {"spec": {"containers": containers, "restartPolicy": restart_policy}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }
