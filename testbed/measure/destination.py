"""Where the requests of a path go, and which programs have to answer them: an endpoint's, or those behind a Service.

A Service is resolved anew for every cell, for its endpoints may have changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from testbed.cluster.values import NODE_PORTS, ClusterState, IPAddress, ServiceEndpoint, ServicePort
from testbed.measure.interface import Network
from testbed.measure.process import ProbeFailure
from testbed.spec.endpoints import EndpointRef, ServiceRef, Target

Transport = Literal["tcp", "udp"]


@dataclass(frozen=True)
class Backend:
    """A program that answers: where it runs, and where it listens."""

    endpoint: EndpointRef
    server_ip: IPAddress
    server_port: int


@dataclass(frozen=True)
class Destination:
    """What a client is told, and who may answer it. ``service`` is None where the address is a backend's own."""

    address: IPAddress
    request_port: int
    backends: tuple[Backend, ...]
    service: ServicePort | None = None


_TRANSPORTS: tuple[Transport, ...] = ("udp", "tcp")


def transports(network: Network, target: Target) -> tuple[Transport, ...]:
    """The transport protocols that the target takes at its port: of a Service those it has ports for."""
    if not _may_be_service(target):
        return _TRANSPORTS
    found = tuple(transport for transport in _TRANSPORTS if _service_port(network.state, target, transport) is not None)
    return found or (() if target.service is not None else _TRANSPORTS)


def resolve(network: Network, target: Target, transport: Transport, own_port: int) -> Destination:
    """The destination of a target. ``own_port`` is taken where the target names no port.

    Raises :class:`ProbeFailure` when a Service has no such port, or no usable endpoint at it.
    """
    service = _service_port(network.state, target, transport) if _may_be_service(target) else None
    if service is None:
        if target.endpoint is None:
            raise ProbeFailure(f"{target} has no {transport.upper()} port")
        address = network.address(target.endpoint)
        server_port = target.port if target.port is not None else own_port
        return Destination(address, server_port, (Backend(target.endpoint, address, server_port),))
    assert target.port is not None
    places = _Places(network.state)
    backends = tuple(places.backend(endpoint) for endpoint in service.cluster_endpoints)
    if not backends:
        raise ProbeFailure(f"{target} has no usable endpoint")
    return Destination(_address(network, target, service), target.port, backends, service)


def _may_be_service(target: Target) -> bool:
    """Whether a Service's port may be meant: a Service by name, or a node's port of the range that Services have."""
    if target.endpoint is None:
        return True
    return target.endpoint.kind == "node" and target.port in NODE_PORTS


def _service_port(state: ClusterState, target: Target, transport: Transport) -> ServicePort | None:
    """The port of a Service that a target means, also by a node's address and a nodePort."""
    return next((entry for entry in state.service_ports if _is_meant(entry, target, transport)), None)


def _is_meant(entry: ServicePort, target: Target, transport: Transport) -> bool:
    if entry.protocol.lower() != transport:
        return False
    if target.service is None:
        return entry.node_port is not None and entry.node_port == target.port
    named = (entry.namespace, entry.name, entry.service_port)
    return named == (target.service.namespace, target.service.name, target.port)


def _address(network: Network, target: Target, service: ServicePort) -> IPAddress:
    if target.endpoint is not None:
        return network.address(target.endpoint)
    assert isinstance(target.service, ServiceRef)
    if target.service.address == "service":
        return service.cluster_ip
    if service.load_balancer_ip is None:
        raise ProbeFailure(f"{target} has no load balancer's address")
    return service.load_balancer_ip


class _Places:
    """Which endpoint of the cluster has an address."""

    def __init__(self, state: ClusterState) -> None:
        self._by_ip = dict(_places(state))

    def backend(self, endpoint: ServiceEndpoint) -> Backend:
        """Raises :class:`ProbeFailure` for an address that is nobody's here."""
        place = self._by_ip.get(endpoint.endpoint_ip)
        if place is None:
            raise ProbeFailure(f"no pod or node has the endpoint's address {endpoint.endpoint_ip}")
        return Backend(place, endpoint.endpoint_ip, endpoint.target_port)


def _places(state: ClusterState) -> Iterator[tuple[IPAddress, EndpointRef]]:
    for node in state.nodes:
        yield node.node_ip, EndpointRef("node", "", node.name)
    for pod in state.pods:
        yield pod.pod_ip, EndpointRef("pod", pod.namespace, pod.name)
