"""Routes, followed hop by hop the way the kernels would: longest prefix, then each of the equal-cost next hops."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given, settings

from tests.unit.topology_choices import fabrics
from topologies import TOPOLOGIES
from topologies.fabric import Fabric, NextHop, Route
from topologies.routing import fabric_routes, underlay_routes


def pod_cidrs(fabric: Fabric) -> dict[IPv4Network, str]:
    """A /24 for every node, in an order unlike the nodes' own."""
    first = int(IPv4Address("10.244.0.0"))
    nodes = fabric.of_kind("node")
    return {IPv4Network((first + 256 * (len(nodes) - k), 24)): node.name for k, node in enumerate(nodes)}


class Walker:
    """Follows one destination address through the routing tables of all elements."""

    def __init__(self, fabric: Fabric, routes: dict[str, tuple[Route, ...]], owners: dict[IPv4Network, str]) -> None:
        self.fabric = fabric
        self.routes = routes
        self.owners = owners
        self.element_at = {
            end.address.ip: end.element for link in fabric.links for end in (link.a, link.b) if end.address
        }
        self.neighbours = {
            (end.element, end.interface): {other.address.ip for other in segment.ends if other.address}
            for segment in fabric.segments
            for end in segment.ends
        }

    def next_elements(self, element: str, destination: IPv4Address) -> set[str]:
        for end in self.fabric.ends_by_element[element]:
            if end.address and destination in end.address.network:
                return {self.element_at[destination]}
        matching = [route for route in self.routes[element] if destination in route.destination]
        assert matching, f"{element} has no route to {destination}"
        best = max(matching, key=lambda route: route.destination.prefixlen)
        for hop in best.next_hops:
            assert hop.via in self.neighbours[element, hop.interface], f"{element}: {hop} is not on that wire"
        assert len(set(best.next_hops)) == len(best.next_hops)
        return {self.element_at[hop.via] for hop in best.next_hops if hop.via}

    def hops(self, source: str, destination: IPv4Address) -> set[int]:
        """The lengths of all paths; fails on a loop, a dead end, or a host that would forward for others."""
        target = self.element_at.get(destination) or next(
            name for prefix, name in self.owners.items() if destination in prefix
        )
        known: dict[str, set[int]] = {target: {0}}

        def follow(element: str, behind: tuple[str, ...]) -> set[int]:
            assert element not in behind, f"loop: {behind} {element}"
            if element not in known:
                assert element == source or self.fabric.element_by_name[element].kind == "router"
                choices = self.next_elements(element, destination)
                known[element] = {1 + length for after in choices for length in follow(after, (*behind, element))}
            return known[element]

        return follow(source, ())


@settings(deadline=None, max_examples=40)
@given(fabrics())
def test_every_pair_reaches_each_other_by_every_choice(fabric: Fabric) -> None:
    owners = pod_cidrs(fabric)
    underlay, pods = underlay_routes(fabric), fabric_routes(fabric, owners)
    both = {name: underlay[name] + pods[name] for name in underlay}
    walker = Walker(fabric, both, owners)
    cidr_of = {name: prefix for prefix, name in owners.items()}
    edge = [element.name for element in (*fabric.of_kind("node"), *fabric.of_kind("ext"))]
    for a in edge:
        for b in edge:
            if a == b:
                continue
            hops = walker.hops(a, fabric.address(b).ip)
            assert len(hops) == 1, f"{a} to {b}: equal-cost paths of unequal length"
            assert hops == walker.hops(b, fabric.address(a).ip)
            if b in cidr_of:
                assert walker.hops(a, cidr_of[b][7]) == hops
    for router in fabric.of_kind("router"):
        for end in fabric.ends_by_element[router.name]:
            assert end.address is not None
            for name in edge:
                # The wire's nearest end is the goal, so a path may pass the far end first: lengths can differ.
                assert walker.hops(name, end.address.ip)


def test_leaf_spine_by_hand() -> None:
    fabric = TOPOLOGIES["leaf_spine"].plan_fabric({})
    routes = fabric_routes(fabric, {IPv4Network("10.244.2.0/24"): "n3"})
    destination = IPv4Network("10.244.2.0/24")

    def expected(*hops: tuple[str, str]) -> tuple[Route, ...]:
        return (Route(destination, tuple(NextHop(IPv4Address(via), interface) for via, interface in hops)),)

    assert routes == {
        "n1": expected(("192.168.1.0", "n1-eth0")),
        "n2": expected(("192.168.1.2", "n2-eth0")),
        "n3": (),
        "n4": expected(("192.168.2.2", "n4-eth0")),
        "leaf1": expected(("172.16.0.1", "leaf1-eth0"), ("172.16.0.3", "leaf1-eth1")),
        "leaf2": expected(("192.168.2.1", "leaf2-eth2")),
        "spine1": expected(("172.16.0.4", "spine1-eth1")),
        "spine2": expected(("172.16.0.6", "spine2-eth1")),
    }


def test_nodes_of_one_segment_route_directly_and_the_default_is_the_router() -> None:
    fabric = TOPOLOGIES["zones"].plan_fabric({})
    routes = fabric_routes(fabric, {IPv4Network("10.244.1.0/24"): "n2"})
    assert routes["n1"][0].next_hops == (NextHop(IPv4Address("192.168.1.12"), "n1-eth0"),)
    assert routes["n3"][0].next_hops == (NextHop(IPv4Address("192.168.2.1"), "n3-eth0"),)
    default = Route(IPv4Network("0.0.0.0/0"), (NextHop(IPv4Address("192.168.1.1"), "n1-eth0"),))
    assert underlay_routes(fabric)["n1"] == (default,)


def test_a_flat_network_needs_no_underlay_routes() -> None:
    fabric = TOPOLOGIES["single_switch"].plan_fabric({"ext": 1})
    assert set(underlay_routes(fabric).values()) == {()}
    pods = fabric_routes(fabric, pod_cidrs(fabric))
    assert len(pods["ext1"]) == 2
    assert len(pods["n1"]) == 1


def test_ecmp_width_in_a_fat_tree() -> None:
    fabric = TOPOLOGIES["fat_tree"].plan_fabric({"k": 8})
    far = fabric.of_kind("node")[-1].name
    routes = fabric_routes(fabric, {IPv4Network("10.244.9.0/24"): far})
    # To another group each edge and each aggregation router has k/2 equal ways up; down there is one.
    assert [len(routes[name][0].next_hops) for name in ("edge1", "agg1", "core1", "agg32", "edge32")] == [4, 4, 1, 1, 1]


def test_every_element_has_an_entry_in_the_order_of_the_prefixes() -> None:
    fabric = TOPOLOGIES["leaf_spine"].plan_fabric({"ext": 1})
    routes = fabric_routes(fabric, pod_cidrs(fabric))
    assert set(routes) == set(fabric.element_by_name)
    for own in routes.values():
        assert [route.destination for route in own] == sorted(route.destination for route in own)
    assert fabric_routes(fabric, dict(reversed(pod_cidrs(fabric).items()))) == routes


def test_an_unknown_owner_is_an_error() -> None:
    with pytest.raises(KeyError):
        fabric_routes(TOPOLOGIES["single_switch"].plan_fabric({}), {IPv4Network("10.244.9.0/24"): "n9"})


def test_128_nodes_take_a_fraction_of_a_second() -> None:
    fabric = TOPOLOGIES["fat_tree"].plan_fabric({"k": 8})
    owners = pod_cidrs(fabric)
    start = time.process_time()
    routes = fabric_routes(fabric, owners)
    assert time.process_time() - start < 1
    assert sum(len(own) for own in routes.values()) == 80 * 128 + 128 * 127
