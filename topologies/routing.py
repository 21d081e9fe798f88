"""Shortest-path routes with ECMP, as a link-state or BGP fabric would converge to them. Pure and deterministic.

Every hop between two IP hosts counts one. Nodes and external hosts never forward for others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import cache
from ipaddress import IPv4Address, IPv4Network

from topologies.fabric import Fabric, NextHop, Route

DEFAULT_ROUTE = IPv4Network("0.0.0.0/0")


def fabric_routes(fabric: Fabric, owners: Mapping[IPv4Network, str]) -> dict[str, tuple[Route, ...]]:
    """Routes to prefixes that elements own (pod CIDRs), for every router, node and external host.

    :param owners: prefix to the name of the element it is behind.
    :return: element name to its routes, in the order of the prefixes' addresses. The owner itself gets none for its
        own prefix, and hosts of one Ethernet segment reach each other directly.
    :raises KeyError: an owner is not an IP element of the fabric.
    """
    return _routes(fabric, {prefix: (owner,) for prefix, owner in owners.items()})


def anycast_routes(fabric: Fabric, owners: Mapping[IPv4Network, Collection[str]]) -> dict[str, tuple[Route, ...]]:
    """Routes to prefixes that several elements announce at once (addresses of LoadBalancer Services).

    Like :func:`fabric_routes`; each element's routes lead to all owners that are nearest to it, by ECMP. A prefix that
    nobody announces has no route.
    """
    return _routes(fabric, {prefix: names for prefix, names in owners.items() if names})


def underlay_routes(fabric: Fabric) -> dict[str, tuple[Route, ...]]:
    """Routes that make every address of the fabric reachable, for every router, node and external host.

    Routers get one route a subnet. Hosts get what servers in a rack have: a default route to the routers beside them.
    """
    attached = {segment.subnet: tuple(end.element for end in segment.ends) for segment in fabric.segments}
    routes = _routes(fabric, attached)
    routers = {element.name for element in fabric.of_kind("router")}
    gateways: dict[str, list[NextHop]] = {name: [] for name in routes if name not in routers}
    for segment in fabric.segments:
        addresses = [end.address.ip for end in segment.ends if end.element in routers and end.address is not None]
        for end in segment.ends:
            if end.element in gateways:
                gateways[end.element] += [NextHop(address, end.interface) for address in addresses]
    for name, next_hops in gateways.items():
        routes[name] = (Route(DEFAULT_ROUTE, tuple(next_hops)),) if next_hops else ()
    return routes


def _routes(fabric: Fabric, targets: Mapping[IPv4Network, Iterable[str]]) -> dict[str, tuple[Route, ...]]:
    graph = _Graph(fabric)
    found: dict[str, list[Route]] = {name: [] for name in graph.attachments}
    # Prefixes of the same owners share one search.
    searched: dict[frozenset[str], dict[str, tuple[NextHop, ...]]] = {}
    for prefix in sorted(targets):
        owners = frozenset(targets[prefix])
        if owners not in searched:
            searched[owners] = graph.next_hops(owners)
        for name, next_hops in searched[owners].items():
            found[name].append(Route(prefix, next_hops))
    return {name: tuple(routes) for name, routes in found.items()}


class _Graph:
    """IP elements joined by segments. A segment of n hosts costs n edges here, not n squared."""

    def __init__(self, fabric: Fabric) -> None:
        self._routers = {element.name for element in fabric.of_kind("router")}
        # Element to the segments it is on, with its own address there as a sortable number.
        self.attachments: dict[str, list[tuple[int, int]]] = {
            element.name: [] for element in fabric.elements if element.kind != "bridge"
        }
        # Segment to the elements on it, each with the position of that interface among its own, and its name.
        self._members: list[list[tuple[str, int, str]]] = []
        for number, segment in enumerate(fabric.segments):
            members = []
            for end in segment.ends:
                if end.address is not None:
                    attachments = self.attachments[end.element]
                    members.append((end.element, len(attachments), end.interface))
                    attachments.append((number, int(end.address.ip)))
            self._members.append(members)
        # The same few values are in very many routes.
        self._next_hop = cache(lambda via, interface: NextHop(IPv4Address(via), interface))

    def next_hops(self, targets: frozenset[str]) -> dict[str, tuple[NextHop, ...]]:
        """All equal-cost first hops of every other element towards the nearest target, by one breadth-first search."""
        distance = dict.fromkeys(targets, 0)
        reached_segments: set[int] = set()
        choices: dict[str, list[tuple[int, int, str]]] = {}
        frontier = sorted(targets)
        level = 0
        while frontier:
            gateways: dict[int, list[int]] = {}
            for name in frontier:
                if level == 0 or name in self._routers:
                    for segment, address in self.attachments[name]:
                        if segment not in reached_segments:
                            gateways.setdefault(segment, []).append(address)
            reached_segments.update(gateways)
            level += 1
            frontier = []
            for segment, addresses in gateways.items():
                for name, position, interface in self._members[segment]:
                    if name not in distance:
                        distance[name] = level
                        choices[name] = []
                        frontier.append(name)
                    if distance[name] == level:
                        choices[name].extend((position, via, interface) for via in addresses)
        return {
            name: tuple(self._next_hop(via, interface) for _, via, interface in sorted(found))
            for name, found in choices.items()
        }
