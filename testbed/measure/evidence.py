"""Evidence, taken on the fabric itself, that the packets of a path travelled as the arm says (rule 9).

For each path of an arm one request with a text of its own goes from source to target and is answered, outside the
measured time; a datagram with the ports that ``udp_rr`` uses in that round, so that equal-cost paths are chosen as for
the measured packets, or what else the target understands. All uplinks of nodes and routers are tapped meanwhile. What
must have been seen stands in :mod:`testbed.measure.expectation`.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from testbed.cluster.values import IPAddress
from testbed.measure.capture import Capture, Frame
from testbed.measure.decode import PROTOCOL_TCP, PROTOCOL_UDP, Packet, decode
from testbed.measure.destination import Destination, Transport
from testbed.measure.expectation import Expected, expected_of
from testbed.measure.interface import Network, network_end
from testbed.measure.probes.base import ANSWER_LIMIT_S
from testbed.network.netns import entered
from testbed.spec.endpoints import EndpointRef

_ATTEMPTS = 3  # a link of the experiment may lose packets, and a tap of a busy machine may miss one
_INCOMPLETE = "the capture is incomplete"
# The header of our echo server's messages (see testbed.measure.clients): length, close the connection, number.
_HEADER = struct.Struct("<IBQ")
_PROTOCOLS = {PROTOCOL_UDP: "udp", PROTOCOL_TCP: "tcp"}


@dataclass(frozen=True)
class Asking:
    """How a path is asked for evidence: from where, whom, and in which way. ``http``: by a request for a page."""

    source: EndpointRef
    destination: Destination
    transport: Transport
    http: bool = False


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


def take(network: Network, capture: Capture, asking: Asking, source_port: int, marker: bytes) -> Finding:
    """Take evidence of one path with open taps."""
    wanted = expected_of(network, network_end(network, asking.source), asking.destination)
    for _ in range(_ATTEMPTS):
        capture.frames()
        answered = send_probe(network, asking, source_port, marker)
        finding = judge(wanted, capture.frames(), marker, answered)
        if not finding.detail.startswith(_INCOMPLETE):
            break
    return finding


def send_probe(network: Network, asking: Asking, source_port: int, marker: bytes) -> bool:
    """Send one request that contains ``marker``; True once an answer is back."""
    server = (str(asking.destination.address), asking.destination.request_port)
    request = _page(server[0], marker) if asking.http else _message(marker)
    for _ in range(_ATTEMPTS):
        try:
            if asking.transport == "udp":
                answered = _datagram(network, asking.source, server, source_port, marker)
            else:
                answered = _connection(network, asking.source, server, request)
        except TimeoutError:
            continue
        except OSError:  # an ICMP error or a reset came back: nothing to wait for
            return False
        if answered:
            return True
    return False


def _datagram(network: Network, source: EndpointRef, server: tuple[str, int], source_port: int, marker: bytes) -> bool:
    with entered(network.namespace(source)):
        probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with probe:
        probe.bind(("", source_port))
        probe.connect(server)
        probe.settimeout(ANSWER_LIMIT_S)
        probe.send(marker)
        return probe.recv(1 << 16) == marker


def _connection(network: Network, source: EndpointRef, server: tuple[str, int], request: bytes) -> bool:
    with entered(network.namespace(source)):
        probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with probe:
        probe.settimeout(ANSWER_LIMIT_S)
        probe.connect(server)
        probe.sendall(request)
        return bool(probe.recv(1 << 16))


def _message(marker: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(marker), 1, 0) + marker


def _page(host: str, marker: bytes) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nX-Testbed: ".encode() + marker + b"\r\n\r\n"


def judge(wanted: Expected, frames: Sequence[Frame], marker: bytes, answered: bool) -> Finding:
    """Decide from the frames captured while the probe was sent. Pure."""
    decoded = [(frame, packet) for frame in frames if (packet := decode(frame.data)) is not None]
    probe = [(frame, packet) for frame, packet in decoded if marker in packet.innermost.payload]
    front = [(frame, packet) for frame, packet in probe if _goes_to(packet.innermost, wanted.asked)]
    server_ports = {end.server_port for end in wanted.ends}
    asks = {id(packet) for _, packet in front}
    request = [
        (frame, packet)
        for frame, packet in probe
        if packet.innermost.destination_port in server_ports and id(packet) not in asks
    ]
    tunnelled = sum(packet.is_vxlan for _, packet in decoded)
    shown = next((packet for _, packet in (*request, *front)), None)
    problem = _problem(wanted, request, front, tunnelled, answered) or _gap(wanted, request, front)
    return Finding(
        ok=not problem,
        detail=problem or _description(wanted, request),
        packets=len(probe),
        outer=None if shown is None or shown.inner is None else _fields(shown),
        inner=None if shown is None else _fields(shown.innermost),
        vni=None if shown is None else shown.vni,
        via=_routers(front) + _routers(request),
        frames=_in_order(front, request, probe),
    )


Seen = tuple[Frame, Packet]


def _goes_to(packet: Packet, asked: tuple[IPAddress, int] | None) -> bool:
    return (packet.ipv4_dst, packet.destination_port) == asked


def _problem(wanted: Expected, request: Sequence[Seen], front: Sequence[Seen], tunnelled: int, answered: bool) -> str:
    if not answered:
        return "the probe packet was not answered"
    if wanted.mode == "routed" and tunnelled:
        return f"{tunnelled} VXLAN packets on the fabric in routed mode"
    if wanted.asked is not None:
        address, request_port = wanted.asked
        if front and not wanted.front:
            return f"the Service's own address {address} was seen on the fabric"
        if wanted.front and not front:
            return f"the probe packet was not seen on its way to {address} port {request_port}"
        if any(packet.inner is not None for _, packet in front):
            return f"the probe packet was encapsulated on its way to {address}"
    if not request and not wanted.may_stay:
        return "the probe packet was not seen on the fabric"
    return next(filter(None, (_packet_problem(wanted, packet) for _, packet in request)), "")


def _packet_problem(wanted: Expected, packet: Packet) -> str:
    seen = packet.innermost
    end = wanted.end(seen.ipv4_dst)
    if end is None or seen.ipv4_src not in wanted.sources:
        sources, ends = (_any_of(each) for each in (wanted.sources, {end.address for end in wanted.ends}))
        return f"the probe packet went from {seen.ipv4_src} to {seen.ipv4_dst}, not {sources} to {ends}"
    if end.element == wanted.turn:
        return "a packet between two ends on one node was seen on the fabric"
    if wanted.tunnelled(end) and packet.inner is None:
        return "the probe packet was seen bare in overlay mode"
    if wanted.tunnelled(end) and packet.vni != wanted.vni:
        return f"VNI {packet.vni} instead of {wanted.vni}"
    if not wanted.tunnelled(end) and packet.inner is not None:
        return "the probe packet was encapsulated"
    return ""


def _any_of(addresses: Iterable[IPAddress]) -> str:
    texts = [str(address) for address in sorted(addresses, key=int)]
    return " or ".join(texts[:3]) + (" ..." if len(texts) > 3 else "")


def _gap(wanted: Expected, request: Sequence[Seen], front: Sequence[Seen]) -> str:
    """What the capture has missed of the packet's way from one uplink to the other."""
    legs: list[tuple[Sequence[Seen], str, str]] = []
    if front:
        legs.append((front, wanted.origin, wanted.turn))
    if request:
        end = wanted.end(request[0][1].innermost.ipv4_dst)
        legs.append((request, wanted.turn, "" if end is None else end.element))
    for leg, begin, finish in legs:
        seen = {(frame.element, frame.outgoing) for frame, _ in leg}
        if begin and (begin, True) not in seen:
            return f"{_INCOMPLETE}: the probe packet was not seen leaving {begin}"
        if finish and (finish, False) not in seen:
            return f"{_INCOMPLETE}: the probe packet was not seen arriving at {finish}"
    return ""


def _description(wanted: Expected, request: Sequence[Seen]) -> str:
    if not request:
        return "answered on the node, and nothing of it on any uplink" if not wanted.front else "answered on that node"
    return f"in VXLAN, VNI {wanted.vni}" if request[0][1].inner is not None else "bare on the fabric"


def _fields(packet: Packet) -> dict[str, Any]:
    protocol = _PROTOCOLS.get(packet.protocol, packet.protocol)
    ports = {"udp_src": packet.udp_src, "udp_dst": packet.udp_dst}
    if packet.protocol == PROTOCOL_TCP:
        ports = {"tcp_src": packet.tcp_src, "tcp_dst": packet.tcp_dst}
    return {"ipv4_src": str(packet.ipv4_src), "ipv4_dst": str(packet.ipv4_dst), "protocol": protocol, **ports}


def _in_order(front: Sequence[Seen], request: Sequence[Seen], probe: Sequence[Seen]) -> tuple[Frame, ...]:
    """The request before the answer, and each by its hops: the TTL falls on the way.

    Not by time: frames are stamped exactly only once the kernel has switched its stamping on, which takes it a while.
    """
    there = {id(packet) for _, packet in (*front, *request)}
    answer = [(frame, packet) for frame, packet in probe if id(packet) not in there]
    # By way of a Service it comes from a tunnel first, and then goes on bare with a TTL of its own.
    tunnelled = [(frame, packet) for frame, packet in answer if packet.inner is not None]
    bare = [(frame, packet) for frame, packet in answer if packet.inner is None]
    ways = (front, request, tunnelled, bare)
    legs = [sorted(leg, key=lambda seen: (-seen[1].ttl, not seen[0].outgoing)) for leg in ways]
    return tuple(frame for leg in legs for frame, _ in leg)


def _routers(request: Sequence[Seen]) -> tuple[str, ...]:
    """The elements that forwarded the request, in order: each took it in and sent it out with a TTL one lower."""
    inward = {frame.element: packet.ttl for frame, packet in request if not frame.outgoing}
    outward = {frame.element: packet.ttl for frame, packet in request if frame.outgoing}
    forwarded = [element for element in inward if outward.get(element) == inward[element] - 1]
    return tuple(sorted(forwarded, key=lambda element: -inward[element]))
