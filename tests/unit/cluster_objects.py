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
