"""The physical network as values: elements, links, addresses. Pure, so that a plan needs no Mininet run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
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
class Segment:
    """An Ethernet broadcast domain: a wire, or a bridge with its wires. ``ends`` are those that have an address."""

    subnet: IPv4Network
    ends: tuple[LinkEnd, ...]


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

    @cached_property
    def element_by_name(self) -> Mapping[str, Element]:
        return {element.name: element for element in self.elements}

    def of_kind(self, kind: ElementKind) -> tuple[Element, ...]:
        return tuple(element for element in self.elements if element.kind == kind)

    @cached_property
    def ends_by_element(self) -> Mapping[str, tuple[LinkEnd, ...]]:
        """Element name to its own ends of its links, in interface order."""
        ends: dict[str, list[LinkEnd]] = {element.name: [] for element in self.elements}
        for link in self.links:
            for end in (link.a, link.b):
                ends[end.element].append(end)
        return {name: tuple(own) for name, own in ends.items()}

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Every broadcast domain that carries IP, in building order. A bridge joins all its wires into one."""
        ends_by_domain: dict[str, list[LinkEnd]] = {}
        for link in self.links:
            bridges = [end.element for end in (link.a, link.b) if self.element_by_name[end.element].kind == "bridge"]
            domain = bridges[0] if bridges else link.a.interface
            ends_by_domain.setdefault(domain, []).extend(end for end in (link.a, link.b) if end.address is not None)
        return tuple(
            Segment(ends[0].address.network, tuple(ends))
            for ends in ends_by_domain.values()
            if ends and ends[0].address is not None
        )

    def address(self, name: str) -> IPv4Interface:
        """The address of an element's first interface that has one: a node's ``node_ip``.

        Raises KeyError for a bridge or an unknown name.
        """
        for end in self.ends_by_element[name]:
            if end.address is not None:
                return end.address
        raise KeyError(name)
