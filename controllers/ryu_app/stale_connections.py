"""Which tracked connections lead to an endpoint that a Service no longer uses: a pure comparison of two states.

UDP: while a client keeps sending, its entry in connection tracking never ends, and every datagram goes to an address
where nobody is. So those entries are removed, as kube-proxy does (``pkg/proxy/conntrack``), and the next datagram is
given to another endpoint. TCP: only where the endpoint's pod has gone (:mod:`testbed.cluster.gone_endpoints`); other
endpoints go on with the connections that they have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from testbed.cluster.changed_ports import changed_ports
from testbed.cluster.gone_endpoints import gone_tcp_endpoints
from testbed.cluster.values import ClusterState, IPAddress, ServiceEndpoint, ServicePort


class Translation(NamedTuple):
    """Connections to an address of a Service that were given to an endpoint; None stands for any.

    ``service_ip`` is None for a node port, ``endpoint_ip`` and ``target_port`` where all endpoints are meant.
    """

    protocol: Literal["TCP", "UDP"]
    service_ip: IPAddress | None
    service_port: int | None
    endpoint_ip: IPAddress | None
    target_port: int | None


EVERY_UDP_TRANSLATION = Translation("UDP", None, None, None, None)


class StaleConnections:
    """What ceases to be used from one state to another. Only what differs between the two is looked at."""

    def __init__(self, old: ClusterState, new: ClusterState) -> None:
        before, after = changed_ports(_balanced(old), _balanced(new))
        come = {port.key: port for port in after if port.protocol == "UDP"}
        self._changes = [(port, come.get(port.key)) for port in before if port.protocol == "UDP"]
        gone = sorted(gone_tcp_endpoints(old, new)) if _balanced(old) else ()
        self._gone = tuple(Translation("TCP", None, None, *endpoint) for endpoint in gone)

    def on(self, node_name: str) -> tuple[Translation, ...]:
        """The connections to remove on a node, in a fixed order."""
        gone: list[Translation] = []
        for old, new in self._changes:
            used = dict(_translations(new, node_name)) if new is not None else {}
            for service, endpoints in _translations(old, node_name):
                gone += _gone(service, endpoints, used.get(service))
        return (*gone, *self._gone)


class UdpDigest:
    """A short text that is the same for two states, even of two processes, if their UDP Services are alike."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[ServicePort, int]] = {}  # by the port's id; no port is read twice

    def of(self, state: ClusterState) -> str:
        known = self._known
        self._known = {
            id(port): known.get(id(port)) or (port, _digest(port))
            for port in _balanced(state)
            if port.protocol == "UDP"
        }
        return f"{sum(number for _, number in self._known.values()) % (1 << 64):016x}"


def _digest(port: ServicePort) -> int:
    words: list[object] = [port.key, port.cluster_ip, port.service_port, port.node_port, port.load_balancer_ip]
    words += [port.internal_local, port.external_local]
    for entry in port.endpoints:
        words += [entry.endpoint_ip, entry.target_port, entry.node_name]
        words += [entry.ready, entry.serving, entry.terminating]
    text = " ".join(map(str, words))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


_ServiceAddress = tuple[IPAddress | None, int]
_EndpointAddress = tuple[IPAddress, int]


def _balanced(state: ClusterState) -> tuple[ServicePort, ...]:
    """None at all if the kernels translate: the bridges' entries are not used then."""
    return state.service_ports if state.config.proxy == "openflow" else ()


def _translations(port: ServicePort, node_name: str) -> Iterator[tuple[_ServiceAddress, tuple[_EndpointAddress, ...]]]:
    """By each address of a Service's port the endpoints to which this node may give connections to it."""
    everywhere, here = _addresses(port.cluster_endpoints), _addresses(port.local_endpoints(node_name))
    yield (port.cluster_ip, port.service_port), here if port.internal_local else everywhere
    # With a Local policy clients within the cluster are still given any endpoint.
    external = (*everywhere, *(address for address in here if address not in everywhere))
    external = external if port.external_local else everywhere
    if port.load_balancer_ip is not None:
        yield (port.load_balancer_ip, port.service_port), external
    if port.node_port is not None:
        yield (None, port.node_port), external


def _addresses(endpoints: Iterable[ServiceEndpoint]) -> tuple[_EndpointAddress, ...]:
    return tuple((entry.endpoint_ip, entry.target_port) for entry in endpoints)


def _gone(
    service: _ServiceAddress, old: tuple[_EndpointAddress, ...], new: tuple[_EndpointAddress, ...] | None
) -> list[Translation]:
    if old and not new:
        return [Translation("UDP", *service, None, None)]
    kept = set(new or ())
    return [Translation("UDP", *service, *endpoint) for endpoint in old if endpoint not in kept]
