"""Which tracked connections a change of Services makes stale."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from controllers.ryu_app.stale_connections import StaleConnections, Translation
from testbed.cluster.values import ClusterState, NetworkConfig, PodNetwork, ServiceEndpoint, ServicePort
from tests.unit.pipeline_states import node

NODES = tuple(node(number, IPv4Network(f"10.244.{number}.0/24")) for number in (1, 2))
VIP = IPv4Address("10.96.0.53")
ON_N1, ON_N2 = IPv4Address("10.244.1.2"), IPv4Address("10.244.2.2")
BOTH = (ServiceEndpoint(ON_N1, 5353, "n1"), ServiceEndpoint(ON_N2, 5353, "n2"))


def port(*endpoints: ServiceEndpoint, **changes: Any) -> ServicePort:
    made = ServicePort("default", "dns", "dns", "UDP", VIP, 53, 1, endpoints)
    return replace(made, **changes)


def state(*ports: ServicePort, **settings: Any) -> ClusterState:
    return ClusterState(NetworkConfig(**settings), NODES, (), ports)


def pod(address: IPv4Address) -> PodNetwork:
    return PodNetwork("default", f"at-{address}", "n1", address, "02:00:00:00:00:01", "p1", 16)


def stale(old: ClusterState, new: ClusterState) -> dict[str, set[Translation]]:
    comparison = StaleConnections(old, new)
    found = {entry.name: comparison.on(entry.name) for entry in NODES}
    assert all(len(set(entries)) == len(entries) for entries in found.values())
    return {name: set(entries) for name, entries in found.items()}


def everywhere(*translations: Translation) -> dict[str, set[Translation]]:
    return {entry.name: set(translations) for entry in NODES}


def test_an_endpoint_that_goes_is_stale_and_one_that_stays_or_comes_is_not() -> None:
    assert stale(state(port(*BOTH)), state(port(BOTH[0]))) == everywhere(Translation("UDP", VIP, 53, ON_N2, 5353))
    assert stale(state(port(BOTH[0])), state(port(*BOTH))) == everywhere()
    assert stale(state(port()), state(port(*BOTH))) == everywhere()
    assert stale(state(port(*BOTH)), state(port(*BOTH))) == everywhere()


def test_tcp_connections_are_left_alone_while_their_pod_is_there() -> None:
    tcp = {"protocol": "TCP"}
    assert stale(state(port(*BOTH, **tcp)), state(port(BOTH[0], **tcp))) == everywhere()
    with_pods = replace(state(port(*BOTH, **tcp)), pods=(pod(ON_N1), pod(ON_N2)))
    for endpoints in ((BOTH[0],), (BOTH[0], replace(BOTH[1], ready=False, serving=False, terminating=True))):
        assert stale(with_pods, replace(with_pods, service_ports=(port(*endpoints, **tcp),))) == everywhere()
    assert stale(with_pods, replace(with_pods, service_ports=())) == everywhere(), "the Service has gone, and no pod"


def test_tcp_connections_to_a_pod_that_has_gone_are_stale() -> None:
    tcp = {"protocol": "TCP"}
    gone = everywhere(Translation("TCP", None, None, ON_N2, 5353))
    with_pods = replace(state(port(*BOTH, **tcp)), pods=(pod(ON_N1), pod(ON_N2)))
    less = replace(with_pods, pods=with_pods.pods[:1])
    assert stale(with_pods, less) == everywhere(), "it is an endpoint still, and would be chosen again"
    assert stale(less, replace(less, service_ports=(port(BOTH[0], **tcp),))) == gone
    ending = replace(BOTH[1], ready=False, serving=False, terminating=True)
    # What is known of pods may be older than what is known of endpoints.
    assert stale(state(port(BOTH[0], ending, **tcp)), state(port(BOTH[0], **tcp))) == gone
    proxied = state(port(BOTH[0], ending, **tcp), proxy="nftables")
    assert stale(proxied, replace(proxied, service_ports=(port(BOTH[0], **tcp),))) == everywhere(), "kernels balance"


def test_what_is_an_endpoint_of_another_service_has_not_gone() -> None:
    ending = port(replace(BOTH[0], ready=False, serving=False, terminating=True), protocol="TCP")
    other = port(BOTH[0], protocol="TCP", name="other")
    assert stale(state(ending), state()) == everywhere(Translation("TCP", None, None, ON_N1, 5353))
    for unchanged in (other, replace(other)):
        assert stale(state(ending, other), state(unchanged)) == everywhere()
    assert stale(state(ending), state(other)) == everywhere(), "its address is another pod's by now"


def test_an_address_outside_of_the_cluster_is_no_pod_that_has_gone() -> None:
    outside = ServiceEndpoint(IPv4Address("192.0.2.7"), 5353)
    before = replace(state(port(BOTH[0], outside, protocol="TCP")), pods=(pod(ON_N1),))
    assert stale(before, replace(before, service_ports=(port(BOTH[0], protocol="TCP"),))) == everywhere()


def test_an_endpoint_that_is_no_longer_ready_is_stale_while_others_are() -> None:
    leaving = replace(BOTH[1], ready=False, serving=True, terminating=True)
    assert stale(state(port(*BOTH)), state(port(BOTH[0], leaving))) == everywhere(
        Translation("UDP", VIP, 53, ON_N2, 5353)
    )
    # With nobody else there it goes on serving (KEP-1669).
    assert stale(state(port(BOTH[1])), state(port(leaving))) == everywhere()


def test_another_target_port_is_another_endpoint() -> None:
    moved = replace(BOTH[0], target_port=5454)
    gone = Translation("UDP", VIP, 53, ON_N1, 5353)
    assert stale(state(port(*BOTH)), state(port(moved, BOTH[1]))) == everywhere(gone)


@pytest.mark.parametrize("new", [(), (port(),)])
def test_without_any_endpoint_or_without_the_service_everything_is_stale(new: tuple[ServicePort, ...]) -> None:
    assert stale(state(port(*BOTH)), state(*new)) == everywhere(Translation("UDP", VIP, 53, None, None))


def test_every_address_of_a_service_counts() -> None:
    external: dict[str, Any] = {"node_port": 30053, "load_balancer_ip": IPv4Address("198.18.0.1")}
    assert stale(state(port(*BOTH, **external)), state(port(BOTH[0], **external))) == everywhere(
        Translation("UDP", VIP, 53, ON_N2, 5353),
        Translation("UDP", external["load_balancer_ip"], 53, ON_N2, 5353),
        Translation("UDP", None, 30053, ON_N2, 5353),
    )
    assert stale(state(port(*BOTH, **external)), state(port(*BOTH))) == everywhere(
        Translation("UDP", external["load_balancer_ip"], 53, None, None), Translation("UDP", None, 30053, None, None)
    )


def test_a_local_policy_is_about_the_nodes_own_endpoints() -> None:
    cluster, local = state(port(*BOTH)), state(port(*BOTH, internal_local=True))
    assert stale(cluster, local) == {
        "n1": {Translation("UDP", VIP, 53, ON_N2, 5353)},
        "n2": {Translation("UDP", VIP, 53, ON_N1, 5353)},
    }
    assert stale(local, cluster) == everywhere()
    only_n1 = state(port(BOTH[0], internal_local=True))
    assert stale(local, only_n1) == {"n1": set(), "n2": {Translation("UDP", VIP, 53, None, None)}}


def test_clients_in_the_cluster_may_use_any_endpoint_of_an_external_local_service() -> None:
    external = {"node_port": 30053}
    cluster, local = port(*BOTH, **external), port(*BOTH, external_local=True, **external)
    assert stale(state(cluster), state(local)) == everywhere()
    gone = {Translation("UDP", VIP, 53, ON_N2, 5353), Translation("UDP", None, 30053, ON_N2, 5353)}
    assert stale(state(local), state(replace(local, endpoints=BOTH[:1]))) == {"n1": gone, "n2": gone}


def test_when_the_kernels_take_over_nothing_of_the_bridges_is_left() -> None:
    assert stale(state(port(*BOTH)), state(port(*BOTH), proxy="nftables")) == everywhere(
        Translation("UDP", VIP, 53, None, None)
    )
    assert stale(state(port(*BOTH), proxy="nftables"), state(port(BOTH[0]))) == everywhere()
