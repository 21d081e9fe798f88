"""Follow a packet across the cluster: bridges, tunnels, the nodes' kernels and the pods at the ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from controllers.pipeline.fields import ARP_REPLY, ARP_REQUEST, ETH_TYPE_ARP, ETH_TYPE_IPV4
from controllers.pipeline.flow import Flow
from controllers.pipeline.tracer import BridgeTracer, Packet, TraceError
from testbed.cluster.identity import GATEWAY_OF_PORT, TUNNEL_OF_PORT, VIRTUAL_ROUTER_MAC
from testbed.cluster.values import ClusterState, IPAddress, NodeNetwork, PodNetwork

_INITIAL_TTL = 64
_BROADCAST = 0xFFFFFFFFFFFF
# No way through the cluster is longer; beyond, the packet is going round.
_MOST_HOPS = 32


@dataclass(frozen=True)
class Hop:
    """One station: ``place`` (``n1 bridge``, ``n1 kernel``) and what became of the packet there."""

    place: str
    text: str


@dataclass(frozen=True)
class Delivery:
    """Somebody received the packet: ``pod/NAMESPACE/NAME`` or ``node/NAME``."""

    receiver: str
    packet: Packet


@dataclass(frozen=True)
class Trace:
    """All that became of one packet: who received it, and where copies of it were dropped and why."""

    hops: tuple[Hop, ...]
    deliveries: tuple[Delivery, ...]
    drops: tuple[Hop, ...]


@dataclass
class _Journey:
    """A trace in the making. ``waiting`` are packets that a bridge (in_port given) or a kernel must handle next."""

    waiting: deque[tuple[NodeNetwork, int | None, Packet]] = field(default_factory=deque)
    hops: list[Hop] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    drops: list[Hop] = field(default_factory=list)

    def drop(self, place: str, text: str) -> None:
        self.drops.append(Hop(place, text))


class ClusterTracer:
    """A cluster whose bridges hold ``flows``; the nodes' kernels route as ``state.config.mode`` says.

    The kernels' part is the contract with the network plan: a node's own pod CIDR is on ``gw``; in overlay mode the
    cluster CIDR is routed into the bridge by the virtual router's MAC; in routed mode other nodes' pod CIDRs and, in
    both, their node addresses are reached over the fabric, which is taken as one wire.
    """

    def __init__(self, state: ClusterState, flows: Mapping[str, Iterable[Flow]]) -> None:
        self._state = state
        self._bridges = {name: BridgeTracer(node_flows) for name, node_flows in flows.items()}
        self._node_by_vtep = {_mac(node.vtep_mac): node for node in state.nodes}
        self._pod_by_of_port = {(pod.node_name, pod.of_port): pod for pod in state.pods}

    def from_pod(self, key: str, destination: IPAddress) -> Trace:
        """An IP packet from a pod as its kernel sends it: resolved by ARP on its subnet, or else to its gateway."""
        pod = self._state.pod_by_key[key]
        node = self._state.node_by_name[pod.node_name]
        journey = _Journey()
        next_hop = destination if destination in node.pod_cidr else node.gateway_ip
        mac = self.resolve(node, pod.of_port, pod.pod_ip, pod.pod_mac, next_hop)
        if mac is None:
            journey.drop(f"pod {key}", f"nobody answers for {next_hop}")
        else:
            packet = ip_packet(pod.pod_mac, mac, pod.pod_ip, destination)
            journey.waiting.append((node, pod.of_port, packet))
        return self._travel(journey)

    def from_node(self, name: str, destination: IPAddress) -> Trace:
        """An IP packet from a node itself, with the source address its kernel would choose."""
        node = self._state.node_by_name[name]
        into_bridge = destination in node.pod_cidr or self._is_overlay_destination(destination)
        source = node.gateway_ip if into_bridge else node.node_ip
        journey = _Journey()
        self._route(journey, node, ip_packet(node.gateway_mac, node.gateway_mac, source, destination))
        return self._travel(journey)

    def inject(self, node_name: str, in_port: int, packet: Packet) -> Trace:
        """Any frame, put into a bridge by one of its ports."""
        journey = _Journey()
        journey.waiting.append((self._state.node_by_name[node_name], in_port, packet))
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
        return Trace(tuple(journey.hops), tuple(journey.deliveries), tuple(journey.drops))

    def _bridge(self, journey: _Journey, node: NodeNetwork, in_port: int, packet: Packet) -> None:
        place = f"{node.name} bridge"
        result = self._bridges[node.name].trace(in_port, packet)
        if not result.outputs:
            journey.drop(place, result.drop_reason)
        for of_port, leaving in result.outputs:
            way = " -> ".join(step.table.name for step in result.steps)
            journey.hops.append(Hop(place, f"in by {in_port}, {way}, out by {of_port}"))
            pod = self._pod_by_of_port.get((node.name, of_port))
            if of_port == TUNNEL_OF_PORT:
                self._tunnel(journey, node, leaving)
            elif of_port == GATEWAY_OF_PORT:
                if leaving["eth_dst"] in (_mac(node.gateway_mac), _BROADCAST):
                    journey.waiting.append((node, None, leaving))
                else:
                    journey.drop(f"{node.name} kernel", "the frame is for another MAC")
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

    def _kernel(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        """What a node's kernel does with a packet it received: keep it or forward it."""
        if packet["eth_type"] != ETH_TYPE_IPV4:
            journey.drop(f"{node.name} kernel", "not an IP packet")
        elif packet["ipv4_dst"] in (int(node.node_ip), int(node.gateway_ip)):
            journey.deliveries.append(Delivery(f"node/{node.name}", packet))
        elif packet["ip_ttl"] <= 1:
            journey.drop(f"{node.name} kernel", "TTL expired")
        else:
            self._route(journey, node, {**packet, "ip_ttl": packet["ip_ttl"] - 1})

    def _route(self, journey: _Journey, node: NodeNetwork, packet: Packet) -> None:
        place = f"{node.name} kernel"
        destination = IPv4Address(packet["ipv4_dst"])
        if destination == node.node_ip or destination == node.gateway_ip:
            journey.deliveries.append(Delivery(f"node/{node.name}", packet))
            return
        if destination in node.pod_cidr:
            mac = self.resolve(node, GATEWAY_OF_PORT, node.gateway_ip, node.gateway_mac, destination)
            if mac is None:
                journey.drop(place, f"nobody answers for {destination}")
                return
            self._into_bridge(journey, node, packet, mac)
            return
        if self._is_overlay_destination(destination):
            self._into_bridge(journey, node, packet, _mac(VIRTUAL_ROUTER_MAC))
            return
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

    def _is_overlay_destination(self, destination: IPAddress) -> bool:
        return self._state.config.mode == "overlay" and destination in self._state.config.cluster_cidr


def ip_packet(eth_src: str, eth_dst: str | int, source: IPAddress, destination: IPAddress) -> Packet:
    """An IP packet as its sender puts it on the wire."""
    return {
        "eth_type": ETH_TYPE_IPV4,
        "eth_src": _mac(eth_src),
        "eth_dst": eth_dst if isinstance(eth_dst, int) else _mac(eth_dst),
        "ipv4_src": int(source),
        "ipv4_dst": int(destination),
        "ip_ttl": _INITIAL_TTL,
    }


def _mac(text: str) -> int:
    return int(text.replace(":", ""), 16)
