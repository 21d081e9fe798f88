"""Which nodes announce a LoadBalancer address, and how the fabric's elements get there."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from testbed.cluster.values import ServiceEndpoint, ServicePort
from testbed.network.load_balancer_routes import announcements, load_balancer_routes
from tests.unit.pipeline_states import large
from topologies import TOPOLOGIES

ADDRESS = IPv4Address("198.18.0.1")
PREFIX = IPv4Network("198.18.0.1/32")


def service(*node_names: str, local: bool) -> ServicePort:
    endpoints = tuple(
        ServiceEndpoint(IPv4Address(f"10.244.0.{index + 2}"), 80, name) for index, name in enumerate(node_names)
    )
    return ServicePort(
        *("default", "web", "http", "TCP", IPv4Address("10.96.0.20"), 80, 1),
        endpoints=endpoints,
        node_port=30080,
        load_balancer_ip=ADDRESS,
        external_local=local,
    )


def state(*service_ports: ServicePort):
    return replace(large("routed", 4, 4), service_ports=service_ports)


def test_every_node_announces_under_the_cluster_policy_even_without_endpoints():
    assert announcements(state(service(local=False))) == {PREFIX: ("n1", "n2", "n3", "n4")}


def test_only_nodes_with_a_usable_endpoint_announce_under_the_local_policy():
    assert announcements(state(service("n3", "n1", "n3", local=True))) == {PREFIX: ("n1", "n3")}
    assert announcements(state(service(local=True))) == {PREFIX: ()}
    ended = replace(
        service("n2", local=True),
        endpoints=(ServiceEndpoint(IPv4Address("10.244.1.2"), 80, "n2", ready=False, serving=False, terminating=True),),
    )
    assert announcements(state(ended)) == {PREFIX: ()}


def test_ports_of_one_service_share_their_address():
    other = replace(service("n2", local=True), port_name="https", service_port=443)
    assert announcements(state(service("n1", local=True), other)) == {PREFIX: ("n1", "n2")}


def test_the_fabric_spreads_connections_over_the_nodes_that_announce():
    fabric = TOPOLOGIES["leaf_spine"].plan_fabric({"leaves": 2, "spines": 2, "nodes_per_leaf": 2, "ext": 1}, {})
    routes = load_balancer_routes(fabric, {PREFIX: ("n1", "n2", "n3")})
    assert not [name for name in routes if name.startswith("n")], "a node takes the address into its own bridge"
    node_ips = {str(fabric.address(name).ip) for name in ("n1", "n2", "n3")}
    assert {str(via) for via, _ in routes["leaf1"][0].next_hops} < node_ips
    assert len(routes["leaf1"][0].next_hops) == 2, "both announcing nodes of its own leaf"
    assert len(routes["leaf2"][0].next_hops) == 1
    assert len(routes["spine1"][0].next_hops) == 2, "both leaves are as near"


def test_outside_hosts_on_the_nodes_segment_go_straight_to_the_nodes():
    fabric = TOPOLOGIES["single_switch"].plan_fabric({"nodes": 3, "ext": 1}, {})
    (route,) = load_balancer_routes(fabric, {PREFIX: ("n1", "n3")})["ext1"]
    assert [str(via) for via, _ in route.next_hops] == [str(fabric.address(name).ip) for name in ("n1", "n3")]


def test_an_address_that_nobody_announces_has_no_route():
    fabric = TOPOLOGIES["single_switch"].plan_fabric({"nodes": 2, "ext": 1}, {})
    assert not any(load_balancer_routes(fabric, {PREFIX: ()}).values())
