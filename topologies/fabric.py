"""The physical network as values: elements, links, addresses. Pure, so that a plan needs no Mininet run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Literal

ElementKind = Literal["node", "ext", "router", "bridge"]


@dataclass(frozen=True)
class Shaping:
    """What a link does to packets, in each direction. ``None`` leaves that property to the kernel (unlimited)."""

    rate_mbit: float | None = None
    delay_ms: float | None = None
    jitter_ms: float | None = None
    loss_pct: float | None = None
    queue_packets: int | None = None

    @property
    def needs_netem(self) -> bool:
        return any(value is not None for value in (self.delay_ms, self.jitter_ms, self.loss_pct, self.queue_packets))


@dataclass(frozen=True)
class Element:
    """A box of the fabric. Routers forward IP; bridges switch Ethernet; nodes and ext hosts are its edge."""

    name: str
    kind: ElementKind
    # Where it stands: the leaf, edge or zone a node hangs off; used by schedulers and to name paths.
    location: str = ""


@dataclass(frozen=True)
class LinkEnd:
    """One end of a wire. ``address`` is None on a bridge."""

    element: str
    interface: str
    address: IPv4Interface | None = None


@dataclass(frozen=True)
class FabricLink:
    """A wire between two elements. ``role`` (access, fabric, wan) is how YAML names a group of links."""

    a: LinkEnd
    b: LinkEnd
    role: str
    shaping: Shaping = field(default_factory=Shaping)


@dataclass(frozen=True)
class NextHop:
    via: IPv4Address | None  # None: directly connected
    interface: str


@dataclass(frozen=True)
class Route:
    """One kernel route; several next hops of equal cost are ECMP."""

    destination: IPv4Network
    next_hops: tuple[NextHop, ...]


@dataclass(frozen=True)
class Fabric:
    """A whole physical network. Elements and links are in building order, which is also their naming order."""

    elements: tuple[Element, ...]
    links: tuple[FabricLink, ...]

    @property
    def element_by_name(self) -> Mapping[str, Element]:
        return {element.name: element for element in self.elements}

    def of_kind(self, kind: ElementKind) -> tuple[Element, ...]:
        return tuple(element for element in self.elements if element.kind == kind)
