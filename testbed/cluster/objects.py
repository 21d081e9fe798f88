"""Kubernetes objects in their wire form: plain JSON dicts, and the few questions all rooms ask of them."""

from __future__ import annotations

import re
from typing import Any, TypeGuard

from testbed.cluster import identity
from testbed.cluster.values import IPNetwork, NetworkConfig

JsonObject = dict[str, Any]
NaturalKey = tuple[tuple[tuple[int, int | str], ...], str]

DEFAULT_NAMESPACE = "default"

# RFC 1123 subdomain, as Kubernetes requires of most object names
# (https://kubernetes.io/docs/concepts/overview/working-with-objects/names/).
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_DIGITS = re.compile(r"(\d+)")


def is_valid_name(name: object) -> TypeGuard[str]:
    """Whether a value may be the name of a Kubernetes object: an RFC 1123 subdomain of at most 253 characters."""
    return isinstance(name, str) and len(name) <= 253 and _NAME.fullmatch(name) is not None


def object_name(wire: JsonObject) -> str:
    """The object's name."""
    return str(wire["metadata"]["name"])


def object_namespace(wire: JsonObject) -> str:
    """The object's namespace; ``default`` when it names none (meaningful for namespaced kinds only)."""
    return str(wire["metadata"].get("namespace") or DEFAULT_NAMESPACE)


def pod_key(wire: JsonObject) -> str:
    """``namespace/name``, as :attr:`PodNetwork.key`."""
    return f"{object_namespace(wire)}/{object_name(wire)}"


def resource_version(wire: JsonObject) -> int:
    """The version the store gave the object. Only comparable with versions of the same kind.

    Raises KeyError for an object that no store has seen.
    """
    return int(wire["metadata"]["resourceVersion"])


def without_nulls(value: Any) -> Any:
    """A copy in which a field that is null is not there, as for the API server; null entries of lists stay."""
    if isinstance(value, dict):
        return {name: without_nulls(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [without_nulls(entry) for entry in value]
    return value


def uses_host_network(pod: JsonObject) -> bool:
    """Whether the pod shares its node's network namespace, and so has no attachment of its own."""
    return pod.get("spec", {}).get("hostNetwork") is True


def is_network_config(wire: JsonObject) -> bool:
    """Whether the object is the ConfigMap with the cluster-wide network settings."""
    return (
        wire.get("kind") == "ConfigMap"
        and object_name(wire) == identity.CONFIG_NAME
        and object_namespace(wire) == identity.CONFIG_NAMESPACE
    )


def natural_key(name: str) -> NaturalKey:
    """Sorts ``n2`` before ``n10``, as a person counts; the name itself tells ``n1`` from ``n01``."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in _DIGITS.split(name) if part), name


def node_object(
    name: str, node_ip: str, pod_cidr: IPNetwork, datapath_id: int, labels: dict[str, str], pod_capacity: int
) -> JsonObject:
    """A complete Node: its pod CIDR, addresses, and the identity of its bridge as annotations."""
    gateway_ip = identity.gateway_address(pod_cidr)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", **labels},
            "annotations": {
                identity.DATAPATH_ID: f"{datapath_id:016x}",
                identity.GATEWAY_IP: str(gateway_ip),
                identity.GATEWAY_MAC: identity.address_mac(gateway_ip),
                identity.VTEP_MAC: identity.vtep_mac(datapath_id),
                identity.MASQUERADE_IP: str(identity.masquerade_address(pod_cidr)),
            },
        },
        "spec": {"podCIDR": str(pod_cidr), "podCIDRs": [str(pod_cidr)]},
        "status": {
            "addresses": [{"type": "InternalIP", "address": node_ip}, {"type": "Hostname", "address": name}],
            "allocatable": {"pods": str(pod_capacity)},
            "capacity": {"pods": str(pod_capacity)},
        },
    }


def config_map(namespace: str, name: str, data: dict[str, str]) -> JsonObject:
    """A ConfigMap with the given data."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": data,
    }


def network_config_object(config: NetworkConfig) -> JsonObject:
    """The ConfigMap that holds the network settings (read back by :func:`testbed.cluster.view.network_config`)."""
    return config_map(
        identity.CONFIG_NAMESPACE,
        identity.CONFIG_NAME,
        {
            "mode": config.mode,
            "clusterCIDR": str(config.cluster_cidr),
            "serviceCIDR": str(config.service_cidr),
            "vni": str(config.vni),
            "mtu": str(config.underlay_mtu_bytes),
            "proxy": config.proxy,
            "loadBalancerCIDR": str(config.load_balancer_cidr),
        },
    )
