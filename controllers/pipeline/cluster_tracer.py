"""Follow a packet across the cluster: bridges, tunnels, the nodes' kernels, the pods and the world at the ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from controllers.pipeline.connections import BridgeMemory, direction_of, translate
from controllers.pipeline.fields import ARP_REPLY, ARP_REQUEST, ETH_TYPE_ARP, ETH_TYPE_IPV4, TRANSPORTS
from controllers.pipeline.program import Program
from controllers.pipeline.tracer import BridgeTracer, Choice, Packet, Step, TraceError, first_bucket
from testbed.cluster.identity import GATEWAY_OF_PORT, REJECT_MAC, TUNNEL_OF_PORT, VIRTUAL_ROUTER_MAC
from testbed.cluster.values import (
    NODE_PORTS,
    ClusterState,
    IPAddress,
    NodeNetwork,
    PodNetwork,
    Protocol,
)

_INITIAL_TTL = 64
_BROADCAST = 0xFFFFFFFFFFFF
# No way through the cluster is longer; beyond, the packet is going round.
_MOST_HOPS = 32


class Ports(NamedTuple):
    """The protocol and ports of a packet that has any."""

    protocol: Protocol
    source: int
    destination: int


@dataclass(frozen=True)
class Hop:
    """One station: ``place`` (``n1 bridge``, ``n1 kernel``) and what became of the packet there.

    ``steps`` are the tables it passed on a bridge.
    """

    place: str
    text: str
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Delivery:
    """Somebody received the packet: ``pod/NAMESPACE/NAME``, ``node/NAME``, ``outside/ADDRESS``."""

    receiver: str
    packet: Packet


@dataclass(frozen=True)
class Trace:
    """All that became of one packet: who received it, where copies of it were dropped and why.

    ``refusals`` are nodes whose kernels refused it, with the packet as they saw it.
    """

    hops: tuple[Hop, ...]
    deliveries: tuple[Delivery, ...]
    drops: tuple[Hop, ...]
    refusals: tuple[Delivery, ...] = ()


@dataclass
class _Journey:
    """A trace in the making. ``waiting`` are packets that a bridge (in_port given) or a kernel must handle next."""

    waiting: deque[tuple[NodeNetwork, int | None, Packet]] = field(default_factory=deque)
    hops: list[Hop] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    drops: list[Hop] = field(default_factory=list)
    refusals: list[Delivery] = field(default_factory=list)

    def drop(self, place: str, text: str, steps: tuple[Step, ...] = ()) -> None:
        self.drops.append(Hop(place, text, steps))


class ClusterTracer:
    """A cluster whose bridges hold ``programs``, and remember what they have seen from trace to trace.

    The kernels' part is the contract with the network plan: a node's own pod CIDR is on ``gw``; Services' addresses,
    packets from elsewhere to the node's own NodePorts and, in overlay mode, the cluster CIDR are routed into the bridge
    by the virtual router's MAC; in routed mode other nodes' pod CIDRs and, in both, their node addresses are reached
    over the fabric, which is taken as one wire. ``outside`` are addresses on that wire that are no node's. Only
    bridges translate: it is the cluster of ``proxy: openflow``. ``choose`` decides for the groups.
    """

    def __init__(
        self,
        state: ClusterState,
        programs: Mapping[str, Program],
        outside: frozenset[IPAddress] = frozenset(),
        choose: Choice = first_bucket,
    ) -> None:
        self._state = state
        self._outside = outside
        self._choose = choose
        self._bridges = {name: BridgeTracer(program.flows(), program.groups()) for name, program in programs.items()}
        self._memories = {name: BridgeMemory() for name in programs}
        self._node_by_vtep = {_mac(node.vtep_mac): node for node in state.nodes}
        self._pod_by_of_port = {(pod.node_name, pod.of_port): pod for pod in state.pods}

    def from_pod(self, key: str, destination: IPAddress, ports: Ports | None = None) -> Trace:
        """An IP packet from a pod as its kernel sends it: resolved by ARP on its subnet, or else to its gateway."""
        return self._send_from_pod(key, with_ports(ip_packet(0, 0, IPv4Address(0), destination), ports))

    def from_node(self, name: str, destination: IPAddress, ports: Ports | None = None) -> Trace:
        """An IP packet from a node itself, with the source address its kernel would choose."""
        node = self._state.node_by_name[name]
        into_bridge = destination in node.pod_cidr or self._is_by_bridge(destination)
        source = node.gateway_ip if into_bridge else node.node_ip
        packet = with_ports(ip_packet(node.gateway_mac, node.gateway_mac, source, destination), ports)
        journey = _Journey()
        self._route(journey, node, packet)
        return self._travel(journey)

    def from_outside(self, name: str, source: IPAddress, destination: IPAddress, ports: Ports | None = None) -> Trace:
        """An IP packet from an address outside the cluster that reaches a node by the fabric."""
        journey = _Journey()
        journey.waiting.append(
            (self._state.node_by_name[name], None, with_ports(ip_packet(0, 0, source, destination), ports))
        )
        return self._travel(journey)

    def from_kernel(self, name: str, source: IPAddress, destination: IPAddress, ports: Ports | None = None) -> Trace:
        """An IP packet that a node's kernel forwards, whoever sent it."""
        node = self._state.node_by_name[name]
        journey = _Journey()
        packet = with_ports(ip_packet(node.gateway_mac, node.gateway_mac, source, destination), ports)
        self._route(journey, node, packet)
        return self._travel(journey)

    def reprogrammed(self, programs: Mapping[str, Program]) -> ClusterTracer:
        """The same cluster after a change of programs: its bridges still remember what they have seen."""
        after = ClusterTracer(self._state, programs, self._outside, self._choose)
        after._memories = self._memories
        return after

    def answer(self, delivery: Delivery) -> Trace:
        """The receiver's answer to a packet: back to whose addresses and ports it saw."""
        packet = {**delivery.packet, "ip_ttl": _INITIAL_TTL}
        translate(packet, direction_of(packet).back())
        kind, _, name = delivery.receiver.partition("/")
        if kind == "pod":
            return self._send_from_pod(name, packet)
        journey = _Journey()
        self._route(journey, self._state.node_by_name[name], packet)
        return self._travel(journey)

    def inject(self, node_name: str, in_port: int, packet: Packet) -> Trace:
        """Any frame, put into a bridge by one of its ports."""
        journey = _Journey()
        journey.waiting.append((self._state.node_by_name[node_name], in_port, packet))
        return self._travel(journey)

    def _send_from_pod(self, key: str, packet: Packet) -> Trace:
        pod = self._state.pod_by_key[key]
        node = self._state.node_by_name[pod.node_name]
        journey = _Journey()
        destination = IPv4Address(packet["ipv4_dst"])
        next_hop = destination if destination in node.pod_cidr else node.gateway_ip
        mac = self.resolve(node, pod.of_port, pod.pod_ip, pod.pod_mac, next_hop)
        if mac is None:
            journey.drop(f"pod {key}", f"nobody answers for {next_hop}")
        else:
            frame = {**packet, "ipv4_src": int(pod.pod_ip), "eth_src": _mac(pod.pod_mac), "eth_dst": mac}
            journey.waiting.append((node, pod.of_port, frame))
        return self._travel(journey)

    def resolve(
        self, node: NodeNetwork, in_port: int, asker_ip: IPAddress, asker_mac: str, address: IPAddress
    ) -> int | None:
        """The MAC that the bridge answers for ``address``; None if unanswered. Raises TraceError for two answers."""
        request = {
            "eth_type": ETH_TYPE_ARP,
            "eth_src": _mac(asker_mac),
            "eth_dst": _BROADCAST,
            "arp_op": ARP_REQUEST,
            "arp_spa": int(asker_ip),
            "arp_sha": _mac(asker_mac),
            "arp_tpa": int(address),
            "arp_tha": 0,
        }
        answers = []
        for of_port, reply in self._bridges[node.name].trace(in_port, request).outputs:
            if of_port != in_port:
                raise TraceError(f"{node.name}: an ARP request for {address} reached port {of_port}")
            expected = {"eth_dst": request["eth_src"], "arp_op": ARP_REPLY, "arp_spa": int(address)}
            expected |= {"arp_tha": request["arp_sha"], "arp_tpa": int(asker_ip), "eth_src": reply["arp_sha"]}
            wrong = {name: reply[name] for name, value in expected.items() if reply[name] != value}
            if wrong:
                raise TraceError(f"{node.name}: the ARP reply for {address} is wrong in {wrong}")
            answers.append(reply["arp_sha"])
        if len(answers) > 1:
            raise TraceError(f"{node.name}: {address} was answered {len(answers)} times")
        return answers[0] if answers else None

    def _travel(self, journey: _Journey) -> Trace:
        stations = 0
        while journey.waiting:
            stations += 1
            if stations > _MOST_HOPS:
                way = "; ".join(f"{hop.place}: {hop.text}" for hop in journey.hops)
                raise TraceError(f"the packet goes round: {way}")
            node, in_port, packet = journey.waiting.popleft()
            if in_port is None:
                self._kernel(journey, node, packet)
            else:
                self._bridge(journey, node, in_port, packet)
        return Trace(tuple(journey.hops), tuple(journey.deliveries), tuple(journey.drops), tuple(journey.refusals))

    def _bridge(self, journey: _Journey, node: NodeNetwork, in_port: int, packet: Packet) -> None:
        place = f"{node.name} bridge"
        result = self._bridges[node.name].trace(in_port, packet, self._memories[node.name], self._choose)
        if not result.outputs:
            journey.drop(place, result.drop_reason, result.steps)
        for of_port, leaving in result.outputs:
            way = " -> ".join(step.table.name for step in result.steps)
            journey.hops.append(Hop(place, f"in by {in_port}, {way}, out by {of_port}", result.steps))
            pod = self._pod_by_of_port.get((node.name, of_port))
            if of_port == TUNNEL_OF_PORT:
                self._tunnel(journey, node, leaving)
            elif of_port == GATEWAY_OF_PORT:
                self._gateway(journey, node, leaving)
            elif pod is not None:
                self._arrive_at_pod(journey, pod, leaving)
            else:
                journey.drop(place, f"nothing is attached to port {of_port}")

    def _tunnel(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        other = self._node_by_vtep.get(packet["eth_dst"])
        if other is None or other is node:
            journey.drop(f"{node.name} tunnel", "no other node has this VTEP MAC")
        else:
            journey.waiting.append((other, TUNNEL_OF_PORT, packet))

    def _gateway(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        """What a node's kernel does with a packet from its bridge."""
        if packet["eth_dst"] not in (_mac(node.gateway_mac), _BROADCAST):
            journey.drop(f"{node.name} kernel", "the frame is for another MAC")
        elif packet["eth_src"] == _mac(REJECT_MAC):
            journey.refusals.append(Delivery(f"node/{node.name}", packet))
        elif packet.get("ipv4_dst") == int(node.node_ip):
            # Its own NodePorts too: that the bridge gave them back means that no Service has them.
            journey.deliveries.append(Delivery(f"node/{node.name}", packet))
        else:
            journey.waiting.append((node, None, packet))

    def _kernel(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        """What a node's kernel does with a packet it received: keep it or forward it."""
        if packet["eth_type"] != ETH_TYPE_IPV4:
            journey.drop(f"{node.name} kernel", "not an IP packet")
        elif self._is_for_kernel(node, packet):
            journey.deliveries.append(Delivery(f"node/{node.name}", packet))
        elif packet["ip_ttl"] <= 1:
            journey.drop(f"{node.name} kernel", "TTL expired")
        else:
            self._route(journey, node, {**packet, "ip_ttl": packet["ip_ttl"] - 1})

    def _is_for_kernel(self, node: NodeNetwork, packet: Packet) -> bool:
        if packet["ipv4_dst"] == int(node.gateway_ip):
            return True
        return packet["ipv4_dst"] == int(node.node_ip) and direction_of(packet).destination_port not in NODE_PORTS

    def _route(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        destination = IPv4Address(packet["ipv4_dst"])
        if self._is_for_kernel(node, packet):
            journey.deliveries.append(Delivery(f"node/{node.name}", packet))
        elif destination in node.pod_cidr and destination != node.masquerade_ip:
            self._route_to_own_pod(journey, node, packet)
        elif destination in (node.node_ip, node.masquerade_ip) or self._is_by_bridge(destination):
            self._into_bridge(journey, node, packet, _mac(VIRTUAL_ROUTER_MAC))
        elif destination in self._outside:
            journey.deliveries.append(Delivery(f"outside/{destination}", packet))
        else:
            self._route_over_fabric(journey, node, packet)

    def _route_to_own_pod(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        destination = IPv4Address(packet["ipv4_dst"])
        mac = self.resolve(node, GATEWAY_OF_PORT, node.gateway_ip, node.gateway_mac, destination)
        if mac is None:
            journey.drop(f"{node.name} kernel", f"nobody answers for {destination}")
        else:
            self._into_bridge(journey, node, packet, mac)

    def _route_over_fabric(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        place = f"{node.name} kernel"
        destination = IPv4Address(packet["ipv4_dst"])
        for other in self._state.nodes:
            routed = self._state.config.mode == "routed" and destination in other.pod_cidr
            if destination == other.node_ip or routed:
                journey.hops.append(Hop(place, f"over the fabric to {other.name}"))
                journey.waiting.append((other, None, packet))
                return
        journey.drop(place, f"no route to {destination}")

    def _into_bridge(self, journey: _Journey, node: NodeNetwork, packet: Packet, eth_dst: int) -> None:
        journey.hops.append(Hop(f"{node.name} kernel", "into the bridge"))
        frame = {**packet, "eth_src": _mac(node.gateway_mac), "eth_dst": eth_dst}
        journey.waiting.append((node, GATEWAY_OF_PORT, frame))

    def _arrive_at_pod(self, journey: _Journey, pod: PodNetwork, packet: Packet) -> None:
        place = f"pod {pod.key}"
        if packet["eth_dst"] not in (_mac(pod.pod_mac), _BROADCAST):
            journey.drop(place, "the frame is for another MAC")
        elif packet.get("ipv4_dst", int(pod.pod_ip)) != int(pod.pod_ip):
            journey.drop(place, "the packet is for another address")
        else:
            journey.deliveries.append(Delivery(f"pod/{pod.key}", packet))

    def _is_by_bridge(self, destination: IPAddress) -> bool:
        """Whether a node's kernel has a route into the bridge for it, besides that for its own pods."""
        config = self._state.config
        by_bridge = [config.service_cidr, config.load_balancer_cidr]
        by_bridge += [config.cluster_cidr] if config.mode == "overlay" else []
        return any(destination in cidr for cidr in by_bridge)


def ip_packet(eth_src: str | int, eth_dst: str | int, source: IPAddress, destination: IPAddress) -> Packet:
    """An IP packet as its sender puts it on the wire."""
    return {
        "eth_type": ETH_TYPE_IPV4,
        "eth_src": _mac(eth_src),
        "eth_dst": _mac(eth_dst),
        "ipv4_src": int(source),
        "ipv4_dst": int(destination),
        "ip_ttl": _INITIAL_TTL,
    }


def with_ports(packet: Packet, ports: Ports | None) -> Packet:
    """The packet with a transport header."""
    if ports is None:
        return packet
    transport = TRANSPORTS[ports.protocol]
    return {
        **packet,
        "ip_proto": transport.ip_proto,
        transport.source: ports.source,
        transport.destination: ports.destination,
    }


def _mac(address: str | int) -> int:
    return address if isinstance(address, int) else int(address.replace(":", ""), 16)
