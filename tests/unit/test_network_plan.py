"""The plan: routes of each mode, and that following them delivers every packet."""

from __future__ import annotations

from ipaddress import IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster.values import MODES, Mode
from testbed.network.openvswitch import parse_port_packets
from testbed.network.plan import Plan, PlannedRoute
from testbed.network.wiring import switch_ports
from tests.box.clusters import plan_of, plan_on, pod
from tests.unit.topology_choices import fabrics
from topologies.fabric import Fabric

CLUSTER = IPv4Network("10.244.0.0/16")


def lookup(routes: tuple[PlannedRoute, ...], address: str) -> PlannedRoute | None:
    """Longest prefix match."""
    fitting = [route for route in routes if ip_address(address) in route.destination]
    return max(fitting, key=lambda route: route.destination.prefixlen, default=None)


def test_only_the_nodes_know_of_pods_in_overlay_mode() -> None:
    plan = plan_of("leaf_spine", [])
    for element, routes in plan.routes("overlay").items():
        into_bridge = [route for route in routes if route.destination.overlaps(CLUSTER) and route.destination.prefixlen]
        if plan.fabric.element_by_name[element].kind == "node":
            assert [str(route) for route in into_bridge] == ["10.244.0.0/16 via 169.254.0.253 dev gw onlink"]
        else:
            assert into_bridge == []


def test_leaves_share_pod_traffic_over_the_spines_in_routed_mode() -> None:
    plan = plan_of("leaf_spine", [], leaves=2, spines=3, nodes_per_leaf=1)
    found = lookup(plan.routes("routed")["leaf1"], "10.244.1.2")
    assert found is not None
    assert found.destination == ip_network("10.244.1.0/24")
    assert len(found.next_hops) == 3


def test_nodes_of_an_l2_fabric_route_to_each_other_directly() -> None:
    plan = plan_of("single_switch", [], nodes=2)
    services = [f"{cidr} via 169.254.0.253 dev gw onlink" for cidr in ("10.96.0.0/12", "198.18.0.0/24")]
    to_pods = "10.244.1.0/24 via 192.168.1.12 dev n1-eth0"
    assert [str(route) for route in plan.routes("routed")["n1"]] == [to_pods, *services]


def _owner_of(plan: Plan, address: str) -> str:
    return next(
        end.element
        for ends in plan.fabric.ends_by_element.values()
        for end in ends
        if end.address is not None and str(end.address.ip) == address
    )


@given(fabric=fabrics())
@settings(max_examples=25, deadline=None)
def test_routed_mode_delivers_every_pod_cidr_by_every_choice_of_next_hop(fabric: Fabric) -> None:
    plan = plan_on(fabric, [])
    tables = plan.routes("routed")
    nodes = plan.state.nodes[:4]
    for target in nodes:
        for source in nodes:
            frontier, hops = {source.name}, 0
            while frontier != {target.name}:
                # Every way to the target has the same length, so all choices arrive together; a loop never would.
                assert hops <= len(tables), f"a loop among {frontier}"
                hops += 1
                routes = [lookup(tables[element], str(target.pod_cidr[2])) for element in frontier]
                assert None not in routes, frontier
                frontier = {_owner_of(plan, str(via)) for route in routes if route for via, _ in route.next_hops}


@given(st.integers(0, 40), st.integers(0, 5))
def test_every_bridge_port_is_there_once(pods: int, idle: int) -> None:
    plan = plan_of("single_switch", [pod(f"p{number}") for number in range(pods)], idle_ports=idle)
    for node in plan.state.nodes:
        ports = switch_ports(plan, node)
        numbers = [number for number in ports.values() if number]
        assert len(numbers) == len(set(numbers))
        assert len(ports) == 2 + len(plan.state.pods_by_node[node.name]) + idle


def test_the_mtu_of_each_mode() -> None:
    plan = plan_of("single_switch", [])
    assert {mode: plan.pod_mtu_bytes(mode) for mode in MODES} == {"overlay": 1450, "routed": 1500}


RECORDED_PORTS = """\
OFPST_PORT reply (OF1.3) (xid=0x2): 4 ports
  port  vxlan0: rx pkts=45, bytes=3874, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=46, bytes=3916, drop=0, errs=0, coll=0
           duration=3.318s
  port LOCAL: rx pkts=0, bytes=0, drop=13, errs=0, frame=0, over=0, crc=0
           tx pkts=0, bytes=0, drop=0, errs=0, coll=0
           duration=3.325s
  port  1: rx pkts=45, bytes=3874, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=46, bytes=3916, drop=0, errs=0, coll=0
           duration=3.318s
  port  2: rx pkts=61, bytes=5390, drop=0, errs=0, frame=0, over=0, crc=0
           tx pkts=60, bytes=5300, drop=0, errs=0, coll=0
           duration=3.317s
"""


def test_port_counters_are_read_from_the_tools_output() -> None:
    assert parse_port_packets(RECORDED_PORTS) == {1: (45, 46), 2: (61, 60)}


@pytest.mark.parametrize("mode", MODES)
def test_the_same_input_gives_the_same_plan(mode: Mode) -> None:
    first, second = (plan_of("zones", [pod("a"), pod("b")]) for _ in range(2))
    assert first.objects == second.objects
    assert first.routes(mode) == second.routes(mode)
