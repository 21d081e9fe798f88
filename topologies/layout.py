"""Names and addresses: a topology says what hangs where, this gives every element, interface and link its own.

The address plan, so that an address tells where it belongs:

- ``192.168.B.0/24`` is the block of one place where edge hosts attach; B counts those places from 1.
- On a bridge the block is one subnet: router .1, external hosts .2 to .10, nodes from .11.
- On a router the block is cut into /31 wires (RFC 3021), the router on the even address, the host on the odd one.
- Wires between routers are /31s counted upwards from 172.16.0.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface

from topologies.fabric import Element, ElementKind, Fabric, FabricLink, LinkEnd, Shaping

_BLOCKS = IPv4Address("192.168.0.0")
_LAST_BLOCK = 255
_ROUTER_WIRES = IPv4Address("172.16.0.0")
_ROUTER_WIRES_END = IPv4Address("172.31.0.0")
_ROUTER_HOST, _FIRST_EXT, _FIRST_NODE, _END = 1, 2, 11, 255
_WIRES_PER_BLOCK = 128
# IFNAMSIZ is 16 with the closing zero.
_INTERFACE_NAME_LENGTH = 15


class Layout:
    """Collects a fabric piece by piece. The same calls in the same order give the same fabric."""

    def __init__(self, shaping: Mapping[str, Shaping]) -> None:
        self._shaping = shaping
        self._elements: dict[str, Element] = {}
        self._links: list[FabricLink] = []
        self._interfaces: dict[str, int] = {}
        self._blocks: dict[str, int] = {}
        self._next_host: dict[tuple[str, ElementKind], int] = {}
        self._router_wires = 0

    def router(self, name: str, location: str = "") -> str:
        """Add a router and return its name. ``location`` is what the hosts on it are said to be at."""
        return self._add(name, "router", location)

    def bridge(self, name: str, location: str = "") -> str:
        """Add a bridge, which is one subnet of its own, and return its name."""
        return self._add(name, "bridge", location)

    def node(self, attached_to: str) -> str:
        """Add the next node (n1, n2, ...) on a router or bridge and return its name."""
        return self._host("n", "node", attached_to)

    def ext(self, attached_to: str) -> str:
        """Add the next external host (ext1, ext2, ...) on a router or bridge and return its name."""
        return self._host("ext", "ext", attached_to)

    def link(self, a: str, b: str, role: str) -> None:
        """Join two routers, or a router (``a``) with a bridge (``b``), by a wire of that role."""
        if self._elements[b].kind == "bridge":
            self._wire(self._end(a, self._in_block(b, _ROUTER_HOST, 24)), self._end(b, None), role)
            return
        even = _ROUTER_WIRES + 2 * self._router_wires
        if even >= _ROUTER_WIRES_END:
            raise ValueError("too many links between routers: 172.16.0.0 to 172.30.255.255 is used up")
        self._router_wires += 1
        self._wire(self._end(a, IPv4Interface((even, 31))), self._end(b, IPv4Interface((even + 1, 31))), role)

    def fabric(self) -> Fabric:
        """What was collected, as a value."""
        return Fabric(tuple(self._elements.values()), tuple(self._links))

    def _add(self, name: str, kind: ElementKind, location: str) -> str:
        if name in self._elements:
            raise ValueError(f"two elements are named {name}")
        self._elements[name] = Element(name, kind, location)
        return name

    def _host(self, prefix: str, kind: ElementKind, attached_to: str) -> str:
        number = 1 + sum(1 for element in self._elements.values() if element.kind == kind)
        parent = self._elements[attached_to]
        name = self._add(f"{prefix}{number}", kind, parent.location or parent.name)
        if parent.kind == "bridge":
            first, end = (_FIRST_EXT, _FIRST_NODE) if kind == "ext" else (_FIRST_NODE, _END)
            host = self._next_host.get((attached_to, kind), first)
            if host >= end:
                raise ValueError(f"too many hosts on {attached_to}: its subnet is full")
            self._next_host[attached_to, kind] = host + 1
            own = self._end(name, self._in_block(attached_to, host, 24))
            self._wire(own, self._end(attached_to, None), "access")
            return name
        wire = self._next_host.get((attached_to, "router"), 0)
        if wire >= _WIRES_PER_BLOCK:
            raise ValueError(f"too many hosts on {attached_to}: its block of addresses is full")
        self._next_host[attached_to, "router"] = wire + 1
        own = self._end(name, self._in_block(attached_to, 2 * wire + 1, 31))
        far = self._end(attached_to, self._in_block(attached_to, 2 * wire, 31))
        self._wire(own, far, "access")
        return name

    def _in_block(self, place: str, host: int, prefix_length: int) -> IPv4Interface:
        block = self._blocks.setdefault(place, len(self._blocks) + 1)
        if block > _LAST_BLOCK:
            raise ValueError("too many places with hosts: 192.168.0.0/16 is used up")
        return IPv4Interface((_BLOCKS + 256 * block + host, prefix_length))

    def _end(self, element: str, address: IPv4Interface | None) -> LinkEnd:
        # Mininet counts the interfaces of switches from 1 and those of all others from 0.
        first = 1 if self._elements[element].kind == "bridge" else 0
        number = self._interfaces.get(element, first)
        self._interfaces[element] = number + 1
        name = f"{element}-eth{number}"
        if len(name) > _INTERFACE_NAME_LENGTH:
            raise ValueError(f"interface name {name} is longer than the kernel allows")
        return LinkEnd(element, name, address)

    def _wire(self, a: LinkEnd, b: LinkEnd, role: str) -> None:
        self._links.append(FabricLink(a, b, role, self._shaping.get(role, Shaping())))
