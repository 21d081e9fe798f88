"""What the frames of a path must show, from where its ends are, the mode and, where it goes to a Service, its policy.

=====================================  ==========================================================================
pods on different nodes, overlay       the probe inside VXLAN (RFC 7348): outer UDP 4789, the VNI, inner addresses
                                       those of the path; nowhere bare
pods on different nodes, routed        the probe bare; no UDP 4789 on any uplink
to a node or an external host          bare in both modes: only traffic *to pods* of another node is encapsulated
both on one node                       nothing on any uplink, in both modes
to a Service                           as to one of its endpoints, from the node on that its address is turned into the
                                       endpoint's; where that is another node than the client's, bare up to there
=====================================  ==========================================================================
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from testbed.cluster.values import ClusterState, IPAddress, Mode, NodeNetwork, ServiceEndpoint, ServicePort
from testbed.measure.destination import Destination, Transport, resolve
from testbed.measure.interface import Network, network_end
from testbed.spec.endpoints import EndpointRef, Target


@dataclass(frozen=True)
class End:
    """Where a path may end: an address and the element (node or external host) that it is on."""

    address: IPAddress
    element: str
    server_port: int
    is_pod: bool = True


@dataclass(frozen=True)
class Expected:
    """What the frames of one path must show.

    ``sources``: addresses from which an end may be asked. ``origin``: the element that the request starts from.
    ``turn``: the element that gives the packet the address of one of the ``ends``; without a Service the origin; "" is
    any node. ``asked``: address and port of the Service that the client itself asks, None without one; ``front``:
    whether that is to be seen on the fabric.
    """

    sources: frozenset[IPAddress]
    ends: tuple[End, ...]
    origin: str
    turn: str
    turn_is_node: bool
    mode: Mode
    vni: int
    asked: tuple[IPAddress, int] | None = None
    front: bool = False

    def end(self, address: IPAddress) -> End | None:
        """The end with an address."""
        return next((end for end in self.ends if end.address == address), None)

    def tunnelled(self, end: End) -> bool:
        """Whether what goes to an end over the fabric goes inside VXLAN."""
        return self.mode == "overlay" and self.turn_is_node and end.is_pod

    @property
    def may_stay(self) -> bool:
        """Whether the request may end on the node that turns it."""
        return not self.turn or any(end.element == self.turn for end in self.ends)

    @property
    def always_tunnelled(self) -> bool:
        """Whether every request crosses the fabric inside VXLAN."""
        return not self.may_stay and all(self.tunnelled(end) for end in self.ends)


def expected(network: Network, source: EndpointRef, target: Target, transport: Transport, own_port: int) -> Expected:
    """What the current mode must show for a path. Raises ProbeFailure when nobody is there to be asked."""
    return expected_of(network, network_end(network, source), resolve(network, target, transport, own_port))


def expected_of(network: Network, source: EndpointRef, destination: Destination) -> Expected:
    """The same for a destination that is known."""
    state, service = network.state, destination.service
    origin = _element(state, source)
    if service is None:
        (backend,) = destination.backends
        seen = network_end(network, backend.endpoint)
        end = End(destination.address, _element(state, seen), destination.request_port, seen.kind == "pod")
        wanted = Expected(
            frozenset(), (end,), origin, origin, source.kind != "ext", state.config.mode, state.config.vni
        )
        return replace(wanted, sources=frozenset({_sender(network, source, wanted)}))
    turn = _turn(state, source, origin, destination)
    client_ip = network.address(source)
    pod_ips = {pod.pod_ip for pod in state.pods}
    ends = tuple(
        End(entry.endpoint_ip, entry.node_name, entry.target_port, entry.endpoint_ip in pod_ips)
        for entry in _endpoints(service, source, turn, destination)
    )
    return Expected(
        frozenset(_sources(state, service, source, client_ip, turn, destination)),
        ends,
        origin,
        turn,
        True,
        state.config.mode,
        state.config.vni,
        asked=(destination.address, destination.request_port),
        front=turn != origin,
    )


def _sender(network: Network, source: EndpointRef, wanted: Expected) -> IPAddress:
    """The address that a client sends from. A node's route into the overlay leads over its gateway interface."""
    if source.kind == "node" and wanted.always_tunnelled:
        return network.state.node_by_name[source.name].gateway_ip
    return network.address(source)


def _element(state: ClusterState, endpoint: EndpointRef) -> str:
    if endpoint.kind == "pod":
        return state.pod_by_key[f"{endpoint.namespace}/{endpoint.name}"].node_name
    return endpoint.name


def _is_cluster_ip(service: ServicePort, destination: Destination) -> bool:
    return destination.address == service.cluster_ip


def _turn(state: ClusterState, source: EndpointRef, origin: str, destination: Destination) -> str:
    """Where the Service's address is turned into an endpoint's: at a nodePort on the node that has the address, else on
    the client's own node; from outside to a load balancer's address on whichever node the fabric has chosen."""
    for node in state.nodes:
        if node.node_ip == destination.address:
            return node.name
    return "" if source.kind == "ext" else origin


def _endpoints(
    service: ServicePort, source: EndpointRef, turn: str, destination: Destination
) -> tuple[ServiceEndpoint, ...]:
    if _is_cluster_ip(service, destination):
        local = service.internal_local
    else:
        # What comes from inside the cluster is given to any endpoint (as kube-proxy does).
        local = service.external_local and source.kind == "ext"
    return service.local_endpoints(turn) if local and turn else service.cluster_endpoints


def _sources(
    state: ClusterState,
    service: ServicePort,
    source: EndpointRef,
    client_ip: IPAddress,
    turn: str,
    destination: Destination,
) -> set[IPAddress]:
    """Which addresses the endpoint may be asked from: the client's where it has to be preserved, else one of the node
    that turns the packet."""
    nodes = [node for node in state.nodes if turn in ("", node.name)]
    masks = {address for node in nodes for address in _masks(node)}
    if _is_cluster_ip(service, destination):
        return {client_ip} if source.kind == "pod" else {client_ip, *masks}
    if service.external_local:
        return {client_ip} if source.kind == "ext" else {client_ip, *masks}
    return masks


def _masks(node: NodeNetwork) -> tuple[IPAddress, ...]:
    """A bridge masks clients with an address of its own, a kernel with that of the interface the packet leaves by."""
    return node.masquerade_ip, node.gateway_ip, node.node_ip
