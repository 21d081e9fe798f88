"""Evidence, taken on the fabric itself, that the packets of a path travelled as the arm says (rule 9).

For each path of an arm one probe packet goes from source to target and back, outside the measured time, with the ports
that ``udp_rr`` uses in that round, so that equal-cost paths are chosen as for the measured packets. All uplinks of
nodes and routers are tapped meanwhile. What must have been seen:

=====================================  ==========================================================================
pods on different nodes, overlay       the probe inside VXLAN (RFC 7348): outer UDP 4789, the VNI, inner addresses
                                       those of the path; nowhere bare
pods on different nodes, routed        the probe bare; no UDP 4789 on any uplink
to a node or an external host          bare in both modes: only traffic *to pods* of another node is encapsulated
both on one node                       nothing on any uplink, in both modes
=====================================  ==========================================================================
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from testbed.cluster.values import ClusterState, IPAddress, Mode
from testbed.measure.capture import Capture, Frame
from testbed.measure.decode import PROTOCOL_UDP, Packet, decode
from testbed.measure.interface import Network, network_end
from testbed.measure.probes.base import ANSWER_LIMIT_S, ECHO_PORT
from testbed.network.netns import entered
from testbed.spec.endpoints import EndpointRef

_ATTEMPTS = 3  # a link of the experiment may lose packets, and a tap of a busy machine may miss one
_INCOMPLETE = "the capture is incomplete"


@dataclass(frozen=True)
class Expected:
    """What the frames of one path must show. ``on_fabric`` False: the path stays on its node."""

    source: IPAddress
    target: IPAddress
    on_fabric: bool
    encapsulated: bool
    vni: int
    mode: Mode
    # The elements between whose uplinks the packet travels; "" where that is not known.
    source_element: str = ""
    target_element: str = ""


@dataclass(frozen=True)
class Finding:
    """What was seen of one path. ``via``: the routers the request passed, in order; ``frames``: those of the probe."""

    ok: bool
    detail: str
    packets: int
    outer: dict[str, Any] | None
    inner: dict[str, Any] | None
    vni: int | None
    via: tuple[str, ...]
    frames: tuple[Frame, ...]

    def record(self) -> dict[str, Any]:
        """The finding as it is written to evidence.jsonl; ``seen_at`` names each frame of the pcap file in order."""
        return {
            "ok": self.ok,
            "packets": self.packets,
            "outer": self.outer,
            "inner": self.inner,
            "vni": self.vni,
            "via": list(self.via),
            "detail": self.detail,
            "seen_at": [f"{frame.interface} {'out' if frame.outgoing else 'in'}" for frame in self.frames],
        }


def expected(network: Network, source: EndpointRef, target: EndpointRef) -> Expected:
    """What the current mode must show for a path."""
    state = network.state
    source, target = network_end(network, source), network_end(network, target)
    source_node, target_node = _node(state, source), _node(state, target)
    on_fabric = source_node is None or source_node != target_node
    encapsulated = on_fabric and state.config.mode == "overlay" and source.kind != "ext" and target.kind == "pod"
    source_address = network.address(source)
    if encapsulated and source.kind == "node":
        # The node's route into the overlay leads over its gateway interface, whose address it then sends from.
        source_address = state.node_by_name[source.name].gateway_ip
    return Expected(
        source_address,
        network.address(target),
        on_fabric,
        encapsulated,
        state.config.vni,
        state.config.mode,
        source_element=source_node or source.name,
        target_element=target_node or target.name,
    )


def _node(state: ClusterState, endpoint: EndpointRef) -> str | None:
    if endpoint.kind == "ext":
        return None
    if endpoint.kind == "node":
        return endpoint.name
    return state.pod_by_key[f"{endpoint.namespace}/{endpoint.name}"].node_name


def send_probe(network: Network, source: EndpointRef, target: EndpointRef, source_port: int, marker: bytes) -> bool:
    """Send one datagram with ``marker`` to the target's echo server; True once the answer is back."""
    with entered(network.namespace(source)):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        probe.bind(("", source_port))
        probe.connect((str(network.address(target)), ECHO_PORT))
        probe.settimeout(ANSWER_LIMIT_S)
        for _ in range(_ATTEMPTS):
            probe.send(marker)
            try:
                if probe.recv(1 << 16) == marker:
                    return True
            except TimeoutError:
                continue
            except OSError:  # an ICMP error came back: nothing to wait for
                return False
    return False


def take(
    network: Network, capture: Capture, source: EndpointRef, target: EndpointRef, source_port: int, marker: bytes
) -> Finding:
    """Take evidence of one path with open taps."""
    wanted = expected(network, source, target)
    for _ in range(_ATTEMPTS):
        capture.frames()
        answered = send_probe(network, source, target, source_port, marker)
        finding = judge(wanted, capture.frames(), marker, answered)
        if not finding.detail.startswith(_INCOMPLETE):
            break
    return finding


def judge(wanted: Expected, frames: Sequence[Frame], marker: bytes, answered: bool) -> Finding:
    """Decide from the frames captured while the probe was sent. Pure."""
    decoded = [(frame, packet) for frame in frames if (packet := decode(frame.data)) is not None]
    probe = [(frame, packet) for frame, packet in decoded if packet.innermost.payload == marker]
    request = [(frame, packet) for frame, packet in probe if packet.innermost.udp_dst == ECHO_PORT]
    tunnelled = sum(packet.is_vxlan for _, packet in decoded)
    shown = request[0][1] if request else None
    problem = _problem(wanted, [packet for _, packet in request], tunnelled, answered) or _gap(wanted, request)
    return Finding(
        ok=not problem,
        detail=problem or _description(wanted),
        packets=len(probe),
        outer=None if shown is None or shown.inner is None else _fields(shown),
        inner=None if shown is None else _fields(shown.innermost),
        vni=None if shown is None else shown.vni,
        via=_routers(request),
        frames=tuple(frame for frame, _ in sorted(probe, key=_along_the_way)),
    )


def _problem(wanted: Expected, request: Sequence[Packet], tunnelled: int, answered: bool) -> str:
    if not answered:
        return "the probe packet was not answered"
    if wanted.mode == "routed" and tunnelled:
        return f"{tunnelled} VXLAN packets on the fabric in routed mode"
    if not wanted.on_fabric:
        return "a packet between two ends on one node was seen on the fabric" if request else ""
    if not request:
        return "the probe packet was not seen on the fabric"
    for packet in request:
        seen = packet.innermost
        if (seen.ipv4_src, seen.ipv4_dst) != (wanted.source, wanted.target):
            return (
                f"the probe packet went from {seen.ipv4_src} to {seen.ipv4_dst}, not {wanted.source} to {wanted.target}"
            )
        if wanted.encapsulated and packet.inner is None:
            return "the probe packet was seen bare in overlay mode"
        if wanted.encapsulated and packet.vni != wanted.vni:
            return f"VNI {packet.vni} instead of {wanted.vni}"
        if not wanted.encapsulated and packet.inner is not None:
            return "the probe packet was encapsulated"
    return ""


def _gap(wanted: Expected, request: Sequence[tuple[Frame, Packet]]) -> str:
    """What the capture has missed of the packet's way from one uplink to the other."""
    seen = {(frame.element, frame.outgoing) for frame, _ in request}
    if wanted.on_fabric and wanted.source_element and (wanted.source_element, True) not in seen:
        return f"{_INCOMPLETE}: the probe packet was not seen leaving {wanted.source_element}"
    if wanted.on_fabric and wanted.target_element and (wanted.target_element, False) not in seen:
        return f"{_INCOMPLETE}: the probe packet was not seen arriving at {wanted.target_element}"
    return ""


def _description(wanted: Expected) -> str:
    if not wanted.on_fabric:
        return "answered, and nothing of it on any uplink"
    return f"in VXLAN, VNI {wanted.vni}" if wanted.encapsulated else "bare on the fabric"


def _fields(packet: Packet) -> dict[str, Any]:
    return {
        "ipv4_src": str(packet.ipv4_src),
        "ipv4_dst": str(packet.ipv4_dst),
        "protocol": "udp" if packet.protocol == PROTOCOL_UDP else packet.protocol,
        "udp_src": packet.udp_src,
        "udp_dst": packet.udp_dst,
    }


def _along_the_way(seen: tuple[Frame, Packet]) -> tuple[bool, int, bool]:
    """Sorts the request before the answer, and each by its hops: the TTL falls on the way.

    Not by time: frames are stamped exactly only once the kernel has switched its stamping on, which takes it a while.
    """
    frame, packet = seen
    return packet.innermost.udp_dst != ECHO_PORT, -packet.ttl, not frame.outgoing


def _routers(request: Sequence[tuple[Frame, Packet]]) -> tuple[str, ...]:
    """The elements that forwarded the request, in order: each took it in and sent it out with a TTL one lower."""
    inward = {frame.element: packet.ttl for frame, packet in request if not frame.outgoing}
    outward = {frame.element: packet.ttl for frame, packet in request if frame.outgoing}
    forwarded = [element for element in inward if outward.get(element) == inward[element] - 1]
    return tuple(sorted(forwarded, key=lambda element: -inward[element]))
