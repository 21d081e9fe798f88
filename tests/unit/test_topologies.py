"""Topologies: parameters, addresses, names, and that Mininet's graph and the pure fabric are one."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given, settings

from tests.unit.topology_choices import fabrics
from topologies import TOPOLOGIES
from topologies.elements import FabricBridge, Router, ShapedLink
from topologies.fabric import Fabric, Shaping
from topologies.layout import Layout

NODES = IPv4Network("192.168.0.0/16")
ROUTER_WIRES = IPv4Network("172.16.0.0/12")
# Kept for the testbed's own management wires.
RESERVED = IPv4Network("172.31.0.0/16")


def assert_well_addressed(fabric: Fabric) -> None:
    ends = [end for link in fabric.links for end in (link.a, link.b)]
    addresses = [end.address for end in ends if end.address is not None]
    assert len({address.ip for address in addresses}) == len(addresses)
    for link in fabric.links:
        between_routers = all(fabric.element_by_name[end.element].kind == "router" for end in (link.a, link.b))
        for end in (link.a, link.b):
            assert (end.address is None) == (fabric.element_by_name[end.element].kind == "bridge")
            if end.address is not None:
                assert end.address.network.subnet_of(ROUTER_WIRES if between_routers else NODES)
                assert not end.address.network.overlaps(RESERVED)
                if end.address.network.prefixlen < 31:
                    assert end.address.ip not in (end.address.network[0], end.address.network[-1])
    for segment in fabric.segments:
        assert {end.address.network for end in segment.ends if end.address} == {segment.subnet}
    subnets = sorted(segment.subnet for segment in fabric.segments)
    assert not any(a.overlaps(b) for a, b in pairwise(subnets))
    assert sum(len(segment.ends) for segment in fabric.segments) == len(addresses)
    interfaces = [end.interface for end in ends]
    assert len(set(interfaces)) == len(interfaces)
    assert all(len(interface) <= 15 for interface in interfaces)
    assert all(len(element.name) <= 10 for element in fabric.elements)


@settings(deadline=None, max_examples=60)
@given(fabrics())
def test_addresses_are_unique_and_in_their_subnet(fabric: Fabric) -> None:
    assert_well_addressed(fabric)


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_nothing_runs_out_at_the_largest_parameters(name: str) -> None:
    topology = TOPOLOGIES[name]
    largest = {parameter.name: parameter.maximum for parameter in topology.PARAMETERS}
    assert_well_addressed(topology.plan_fabric(largest))


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_mininets_graph_is_the_fabric(name: str) -> None:
    topo = TOPOLOGIES[name](ext=1)
    fabric = topo.fabric
    assert set(topo.switches()) == {bridge.name for bridge in fabric.of_kind("bridge")}
    assert set(topo.nodes()) == set(fabric.element_by_name)
    by_interface = {info["intfName1"]: info for _, _, info in topo.links(withInfo=True)}
    assert len(by_interface) == len(fabric.links)
    for link in fabric.links:
        info = by_interface[link.a.interface]
        assert (info["node1"], info["node2"], info["intfName2"]) == (
            link.a.element,
            link.b.element,
            link.b.interface,
        )
        assert f"{link.a.element}-eth{info['port1']}" == link.a.interface
        assert f"{link.b.element}-eth{info['port2']}" == link.b.interface
        for number, end in ((1, link.a), (2, link.b)):
            given_address = info.get(f"params{number}", {}).get("ip")
            assert given_address == (str(end.address) if end.address else None)
    for element in fabric.elements:
        info = topo.nodeInfo(element.name)
        expected = {"bridge": FabricBridge, "router": Router}.get(element.kind)
        assert info.get("cls") is expected
        if element.kind in ("node", "ext"):
            assert IPv4Interface(info["ip"]) == fabric.address(element.name)


def test_the_same_parameters_give_the_same_fabric() -> None:
    for topology in TOPOLOGIES.values():
        assert topology.plan_fabric({"ext": 2}) == topology(ext=2).fabric


def test_leaf_spine_by_hand() -> None:
    fabric = TOPOLOGIES["leaf_spine"].plan_fabric({"ext": 1})
    names = "spine1 spine2 leaf1 leaf2 n1 n2 n3 n4 ext1"
    assert [element.name for element in fabric.elements] == names.split()
    assert [str(fabric.address(name)) for name in ("n1", "n2", "n3", "n4", "ext1")] == [
        "192.168.1.1/31",
        "192.168.1.3/31",
        "192.168.2.1/31",
        "192.168.2.3/31",
        "192.168.3.1/31",
    ]
    assert [element.location for element in fabric.of_kind("node")] == ["leaf1", "leaf1", "leaf2", "leaf2"]
    assert [end.interface for end in fabric.ends_by_element["leaf1"]] == [f"leaf1-eth{k}" for k in range(4)]


def test_a_node_on_a_bridge_keeps_its_address_when_others_join() -> None:
    def address(name: str, **given: int) -> str:
        return str(TOPOLOGIES["single_switch"].plan_fabric(given).address(name))

    assert address("n1", nodes=1, ext=0) == address("n1", nodes=9, ext=8) == "192.168.1.11/24"
    assert address("ext1", nodes=1, ext=1) == address("ext1", nodes=9, ext=8) == "192.168.1.2/24"


def test_fat_tree_sizes() -> None:
    # Al-Fares et al.: k-way routers give k^3/4 hosts and 5k^2/4 routers.
    for k in (2, 4, 6, 8):
        fabric = TOPOLOGIES["fat_tree"].plan_fabric({"k": k})
        assert len(fabric.of_kind("node")) == k**3 // 4
        assert len(fabric.of_kind("router")) == 5 * k * k // 4
        routers = {router.name for router in fabric.of_kind("router")}
        assert {len(fabric.ends_by_element[name]) for name in routers} == {k}


def test_zones_are_a_full_mesh() -> None:
    fabric = TOPOLOGIES["zones"].plan_fabric({"zones": 4})
    pairs = {(link.a.element, link.b.element) for link in fabric.links if link.role == "wan"}
    assert pairs == {(f"zone{a}", f"zone{b}") for a in range(1, 5) for b in range(a + 1, 5)}
    assert [element.location for element in fabric.of_kind("node")][:4] == ["zone1", "zone1", "zone2", "zone2"]


def test_shaping_goes_to_the_links_of_its_role() -> None:
    slow = Shaping(rate_mbit=10)
    topo = TOPOLOGIES["zones"](shaping={"wan": slow})
    assert {link.role for link in topo.fabric.links if link.shaping == slow} == {"wan"}
    assert {link.role for link in topo.fabric.links if link.shaping == Shaping()} == {"access", "fabric"}
    shaped = [info for _, _, info in topo.links(withInfo=True) if info.get("cls") is ShapedLink]
    assert [info["shaping"] for info in shaped] == [slow]


def test_parameters_by_position_as_mininet_passes_them() -> None:
    assert TOPOLOGIES["leaf_spine"](3, 1).fabric == TOPOLOGIES["leaf_spine"](leaves=3, spines=1).fabric


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("leaf_spine", {"leafs": 2}, "leafs is not a parameter; there are: leaves, spines, nodes_per_leaf, ext"),
        ("leaf_spine", {"leaves": 0}, "leaves is 0, but must be a whole number from 1 to 32"),
        ("leaf_spine", {"leaves": 33}, "leaves is 33, but must be a whole number from 1 to 32"),
        ("leaf_spine", {"leaves": True}, "leaves is True, but must be a whole number from 1 to 32"),
        ("leaf_spine", {"leaves": 2.0}, "leaves is 2.0, but must be a whole number from 1 to 32"),
        ("fat_tree", {"k": 3}, "k is 3, but must be a whole number from 2 to 8, in steps of 2"),
    ],
)
def test_wrong_parameters_are_refused(name: str, given: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError) as error:
        TOPOLOGIES[name](**given)
    assert str(error.value) == message


def test_too_many_positions_are_refused() -> None:
    with pytest.raises(ValueError, match="3 values given for the parameters nodes, ext"):
        TOPOLOGIES["single_switch"](1, 2, 3)


def test_unknown_link_role_is_refused() -> None:
    with pytest.raises(ValueError, match="wan is not a link role here; there are: access, fabric"):
        TOPOLOGIES["leaf_spine"](shaping={"wan": Shaping(rate_mbit=1)})


def test_declared_defaults_are_allowed() -> None:
    for topology in TOPOLOGIES.values():
        for name, parameter in topology.parameters().items():
            assert parameter.name == name
            assert parameter.accepts(parameter.default)
            assert parameter.accepts(parameter.maximum)
            assert not parameter.accepts(parameter.maximum + 1)
            assert not parameter.accepts(parameter.minimum - 1)


def test_layout_refuses_what_it_cannot_name_or_address() -> None:
    layout = Layout({})
    bridge = layout.bridge("sw1")
    for _ in range(244):
        layout.node(bridge)
    with pytest.raises(ValueError, match="too many hosts on sw1"):
        layout.node(bridge)
    router = layout.router("r1")
    for _ in range(128):
        layout.node(router)
    with pytest.raises(ValueError, match="too many hosts on r1"):
        layout.node(router)
    with pytest.raises(ValueError, match="two elements are named r1"):
        layout.router("r1")
    with pytest.raises(ValueError, match="longer than the kernel allows"):
        layout.node(layout.router("a-long-name"))
