"""A traced way as values: what text and JSON are made of, and what tests ask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Literal

TransportProtocol = Literal["tcp", "udp", "icmp"]
PROTOCOL_NUMBERS: Mapping[TransportProtocol, int] = {"icmp": 1, "tcp": 6, "udp": 17}

INITIAL_TTL = 64  # the kernel's default, /proc/sys/net/ipv4/ip_default_ttl


@dataclass(frozen=True)
class FiveTuple:
    """What a connection is known by. For ICMP the ports stand for the identifier of an echo request, both alike.

    ``source_port`` 0 means that the kernel chooses it and it cannot be known.
    """

    protocol: TransportProtocol
    source: IPv4Address
    source_port: int
    destination: IPv4Address
    destination_port: int

    @property
    def reversed(self) -> FiveTuple:
        """The other direction."""
        return FiveTuple(self.protocol, self.destination, self.destination_port, self.source, self.source_port)

    def __str__(self) -> str:
        if self.protocol == "icmp":
            return f"icmp {self.source} -> {self.destination}"
        source_port = f":{self.source_port}" if self.source_port else ""
        return f"{self.protocol} {self.source}{source_port} -> {self.destination}:{self.destination_port}"


@dataclass(frozen=True)
class Packet:
    """An IPv4 packet where it is just now. ``eth_*`` are "" inside a kernel; ``mark`` is the kernel's own mark of it.

    ``is_reply``: an answer, which for ICMP is an echo reply. ``inner`` is what a VXLAN packet carries, in the network
    ``vni``.
    """

    tuple: FiveTuple
    ttl: int = INITIAL_TTL
    eth_src: str = ""
    eth_dst: str = ""
    mark: int = 0
    is_reply: bool = False
    inner: Packet | None = None
    vni: int = 0


StepKind = Literal[
    "flow",
    "group",
    "conntrack",
    "output",
    "rule",
    "route",
    "neighbour",
    "netfilter",
    "encapsulation",
    "decapsulation",
    "wire",
    "socket",
    "note",
]


@dataclass(frozen=True)
class Step:
    """One thing that happened to the packet at a hop. ``text`` says it in words, ``data`` holds the facts by name.

    Of a ``flow`` the data are table, priority, match, cookie, subject and actions as Open vSwitch printed them.
    """

    kind: StepKind
    text: str
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Hop:
    """One station: ``place`` as people call it (``bridge of n1``), the packet as it came in, and what became of it."""

    place: str
    packet: Packet
    steps: tuple[Step, ...]


Fate = Literal["delivered", "refused", "dropped"]


@dataclass(frozen=True)
class End:
    """How a way ends: at whom or where, and why. ``packet`` is the last form it had.

    ``namespace`` is the receiver's network namespace. A refused packet is answered with a TCP reset or an ICMP error.
    """

    fate: Fate
    place: str
    reason: str
    packet: Packet
    namespace: str = ""


@dataclass(frozen=True)
class Way:
    """A packet's way in one direction, from hop to hop, and its ends: more than one where copies were made."""

    hops: tuple[Hop, ...]
    ends: tuple[End, ...]

    @property
    def delivered(self) -> End | None:
        """The end where the packet was received; None if it was not."""
        return next((end for end in self.ends if end.fate == "delivered"), None)

    @property
    def flows(self) -> tuple[Step, ...]:
        """The flows that matched, bridge after bridge."""
        return tuple(step for hop in self.hops for step in hop.steps if step.kind == "flow")


@dataclass(frozen=True)
class Trace:
    """A request's way, the way of the reply if there is one, and what had to be assumed."""

    source: str
    target: str
    request: Way
    reply: Way | None
    assumptions: tuple[str, ...] = ()

    @property
    def succeeded(self) -> bool:
        """The request arrives and so does the reply."""
        return self.request.delivered is not None and self.reply is not None and self.reply.delivered is not None
