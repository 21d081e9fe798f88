"""Services as the store holds them, addresses and group numbers given, each with one EndpointSlice."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from typing import Any, NamedTuple

from testbed.cluster.identity import GROUP_NUMBERS
from testbed.cluster.services import SERVICE_NAME_LABEL, group_numbers_text

_FIRST_CLUSTER_IP = IPv4Address("10.96.1.0")


class Endpoint(NamedTuple):
    address: str
    node_name: str = ""
    ready: bool = True


def cluster_ip(number: int) -> IPv4Address:
    return _FIRST_CLUSTER_IP + number


def service(number: int, protocol: str = "TCP", service_port: int = 80, **spec: Any) -> dict[str, Any]:
    """Service ``service-<number>`` with one port without a name."""
    numbers = {("", protocol): number}
    port: dict[str, Any] = {"port": service_port, "protocol": protocol, "targetPort": 8080}
    if "nodePort" in spec:
        port["nodePort"] = spec.pop("nodePort")
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": f"service-{number}",
            "namespace": "default",
            "annotations": {GROUP_NUMBERS: group_numbers_text(numbers)},
        },
        "spec": {"clusterIP": str(cluster_ip(number)), "type": "ClusterIP", "ports": [port], **spec},
    }


def endpoint_slice(
    number: int, endpoints: Iterable[Endpoint], protocol: str = "TCP", target_port: int = 8080
) -> dict[str, Any]:
    """The slice of that Service."""
    name = f"service-{number}"
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-x", "namespace": "default", "labels": {SERVICE_NAME_LABEL: name}},
        "addressType": "IPv4",
        "ports": [{"name": "", "protocol": protocol, "port": target_port}],
        "endpoints": [
            {
                "addresses": [endpoint.address],
                "conditions": {"ready": endpoint.ready},
                **({"nodeName": endpoint.node_name} if endpoint.node_name else {}),
            }
            for endpoint in endpoints
        ],
    }


def with_endpoints(
    number: int, endpoints: Iterable[Endpoint], protocol: str = "TCP", **spec: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A Service and its slice."""
    return service(number, protocol, **spec), endpoint_slice(number, endpoints, protocol)
