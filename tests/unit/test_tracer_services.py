"""What Services promise, for any cluster: who answers, whose address it sees, and in whose name the answer comes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controllers.pipeline import ClusterTracer, Ports, Trace, compile_all
from controllers.pipeline.connections import direction_of
from controllers.pipeline.tracer import Packet
from testbed.cluster.values import MODES, ClusterState, IPAddress, Mode, NodeNetwork, ServiceEndpoint, ServicePort
from tests.unit.pipeline_states import one_service, service_clusters, with_services

OUTSIDE = IPv4Address("203.0.113.9")
CLIENT_PORT = 40000


def follow(cluster: ClusterState, bucket: int = 0) -> ClusterTracer:
    return ClusterTracer(cluster, compile_all(cluster), frozenset({OUTSIDE}), lambda group, packet: bucket)


def ports(port: ServicePort, destination: int | None = None) -> Ports:
    return Ports(port.protocol, CLIENT_PORT, port.service_port if destination is None else destination)


def met(trace: Trace) -> str:
    """What became of a packet, in a word."""
    if trace.deliveries:
        (delivery,) = trace.deliveries
        assert not trace.refusals
        return delivery.receiver
    if trace.refusals:
        assert not trace.drops
        return "refused"
    assert len(trace.drops) == 1
    return "dropped"


def pod_at(cluster: ClusterState, endpoint: ServiceEndpoint) -> str:
    (pod,) = [pod for pod in cluster.pods if pod.pod_ip == endpoint.endpoint_ip]
    return f"pod/{pod.key}"


def receivers(cluster: ClusterState, endpoints: tuple[ServiceEndpoint, ...]) -> set[str]:
    return {pod_at(cluster, endpoint) for endpoint in endpoints}


def seen(packet: Packet) -> IPAddress:
    return IPv4Address(packet["ipv4_src"])


def assert_conversation(tracer: ClusterTracer, trace: Trace, client: str, address: IPAddress, number: int) -> Packet:
    """The answer reaches the client in the Service's name, and what it sends next the same endpoint."""
    (delivery,) = trace.deliveries
    answer = tracer.answer(delivery)
    assert met(answer) == client, answer
    back = direction_of(answer.deliveries[0].packet)
    assert (back.source_ip, back.source_port, back.destination_port) == (int(address), number, CLIENT_PORT)
    if not client.startswith("outside/"):
        again = tracer.answer(answer.deliveries[0])
        assert met(again) == delivery.receiver
        assert direction_of(again.deliveries[0].packet) == direction_of(delivery.packet)
    return delivery.packet


@given(service_clusters(), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_pods_and_nodes_reach_cluster_ips(cluster: ClusterState, bucket: int) -> None:
    for port in cluster.service_ports:
        tracer = follow(cluster, bucket)
        for pod in cluster.pods:
            node = cluster.node_by_name[pod.node_name]
            trace = tracer.from_pod(pod.key, port.cluster_ip, ports(port))
            if check_expected(cluster, port, trace, node, internal=True):
                packet = assert_conversation(tracer, trace, f"pod/{pod.key}", port.cluster_ip, port.service_port)
                itself = packet["ipv4_dst"] == int(pod.pod_ip)
                assert seen(packet) == (node.masquerade_ip if itself else pod.pod_ip)
        for node in cluster.nodes:
            trace = tracer.from_node(node.name, port.cluster_ip, ports(port))
            if check_expected(cluster, port, trace, node, internal=True):
                packet = assert_conversation(tracer, trace, f"node/{node.name}", port.cluster_ip, port.service_port)
                assert seen(packet) == node.masquerade_ip


def check_expected(
    cluster: ClusterState, port: ServicePort, trace: Trace, node: NodeNetwork, internal: bool, outside: bool = False
) -> bool:
    """Whether the packet has to reach an endpoint; fails if it did not, or if it should not have."""
    local = port.internal_local if internal else port.external_local and outside
    endpoints = port.local_endpoints(node.name) if local else port.cluster_endpoints
    if not port.cluster_endpoints:
        assert met(trace) == "refused"
        return False
    if not endpoints:
        assert met(trace) == "dropped"
        return False
    assert met(trace) in receivers(cluster, endpoints)
    assert direction_of(trace.deliveries[0].packet).destination_port in {entry.target_port for entry in endpoints}
    return True


@given(service_clusters(), st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_everybody_reaches_node_ports(cluster: ClusterState, bucket: int) -> None:
    for port in cluster.service_ports:
        if port.node_port is None:
            continue
        wanted = ports(port, port.node_port)
        for node in cluster.nodes:
            tracer = follow(cluster, bucket)
            trace = tracer.from_outside(node.name, OUTSIDE, node.node_ip, wanted)
            if check_expected(cluster, port, trace, node, internal=False, outside=True):
                packet = assert_conversation(tracer, trace, f"outside/{OUTSIDE}", node.node_ip, port.node_port)
                assert seen(packet) == (OUTSIDE if port.external_local else node.masquerade_ip)
            for other in cluster.nodes:
                trace = tracer.from_node(other.name, node.node_ip, wanted)
                outside = other is not node
                if check_expected(cluster, port, trace, node, internal=False, outside=outside):
                    assert_conversation(tracer, trace, f"node/{other.name}", node.node_ip, port.node_port)
            for pod in cluster.pods:
                trace = tracer.from_pod(pod.key, node.node_ip, wanted)
                if check_expected(cluster, port, trace, node, internal=False):
                    assert_conversation(tracer, trace, f"pod/{pod.key}", node.node_ip, port.node_port)


@given(service_clusters(), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_load_balancer_addresses_are_reached_from_outside_and_from_pods(cluster: ClusterState, bucket: int) -> None:
    for port in cluster.service_ports:
        if port.load_balancer_ip is None:
            continue
        tracer = follow(cluster, bucket)
        for node in cluster.nodes:
            trace = tracer.from_outside(node.name, OUTSIDE, port.load_balancer_ip, ports(port))
            if check_expected(cluster, port, trace, node, internal=False, outside=True):
                assert_conversation(tracer, trace, f"outside/{OUTSIDE}", port.load_balancer_ip, port.service_port)
        for pod in cluster.pods:
            trace = tracer.from_pod(pod.key, port.load_balancer_ip, ports(port))
            if check_expected(cluster, port, trace, cluster.node_by_name[pod.node_name], internal=False):
                assert_conversation(tracer, trace, f"pod/{pod.key}", port.load_balancer_ip, port.service_port)


@given(service_clusters(), st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_what_is_not_a_services_port_is_refused_and_what_nobody_has_is_dropped(
    cluster: ClusterState, bucket: int
) -> None:
    tracer = follow(cluster, bucket)
    for pod in cluster.pods:
        nobody = tracer.from_pod(pod.key, cluster.config.service_cidr[77], Ports("TCP", CLIENT_PORT, 80))
        assert met(nobody) == "dropped"
        for port in cluster.service_ports:
            assert met(tracer.from_pod(pod.key, port.cluster_ip, Ports(port.protocol, CLIENT_PORT, 9))) == "refused"
            assert met(tracer.from_pod(pod.key, port.cluster_ip)) == "refused"
    for node in cluster.nodes:
        own = tracer.from_outside(node.name, OUTSIDE, node.node_ip, Ports("TCP", CLIENT_PORT, 32767))
        assert met(own) == f"node/{node.name}"


@given(service_clusters())
@settings(max_examples=20, deadline=None)
def test_pods_that_talk_directly_are_not_translated(cluster: ClusterState) -> None:
    tracer = follow(cluster)
    for port in cluster.service_ports:
        for endpoint in port.endpoints:
            for pod in cluster.pods:
                if pod.pod_ip == endpoint.endpoint_ip:
                    continue
                directly = Ports(port.protocol, CLIENT_PORT, endpoint.target_port)
                trace = tracer.from_pod(pod.key, endpoint.endpoint_ip, directly)
                assert met(trace) == pod_at(cluster, endpoint)
                assert seen(trace.deliveries[0].packet) == pod.pod_ip
                answer = tracer.answer(trace.deliveries[0])
                assert met(answer) == f"pod/{pod.key}"
                assert seen(answer.deliveries[0].packet) == endpoint.endpoint_ip


@given(service_clusters(), st.data())
@settings(max_examples=20, deadline=None)
def test_a_pod_does_not_pay_for_services_it_does_not_use(cluster: ClusterState, data: st.DataObject) -> None:
    """No packet between pods is looked up among connections, but for what an endpoint sends from its port."""
    assume(len(cluster.pods) > 1)
    source, target = data.draw(st.permutations(cluster.pods))[:2]
    trace = follow(cluster).from_pod(source.key, target.pod_ip, Ports("TCP", 50000, 50001))
    tables = [step.table.name for hop in trace.hops for step in hop.steps]
    assert "ConntrackState" not in tables


@pytest.mark.parametrize("mode", MODES)
def test_affinity_keeps_a_client_at_its_endpoint_until_that_is_gone(mode: Mode) -> None:
    cluster = one_service(mode)
    (web,) = cluster.service_ports
    sticky = replace(web, affinity_timeout_s=60)
    choices = iter((1, 0, 0, 0))
    state = with_services(cluster, [sticky])
    tracer = ClusterTracer(state, compile_all(state), choose=lambda group, packet: next(choices))
    first = [
        met(tracer.from_pod("default/client", web.cluster_ip, Ports("TCP", CLIENT_PORT + number, 80)))
        for number in range(4)
    ]
    assert len(set(first)) == 1
    gone = next(entry for entry in web.endpoints if pod_at(cluster, entry) == first[0])
    left = replace(sticky, endpoints=tuple(entry for entry in web.endpoints if entry is not gone))
    after = tracer.reprogrammed(compile_all(with_services(cluster, [left])))
    second = [
        met(after.from_pod("default/client", web.cluster_ip, Ports("TCP", CLIENT_PORT + 10 + number, 80)))
        for number in range(3)
    ]
    assert set(second) == receivers(cluster, left.endpoints)


@pytest.mark.parametrize("mode", MODES)
def test_a_connection_stays_with_its_endpoint_when_others_come_and_go(mode: Mode) -> None:
    cluster = one_service(mode)
    (web,) = cluster.service_ports
    tracer = follow(cluster)
    trace = tracer.from_pod("default/client", web.cluster_ip, ports(web))
    kept = [entry for entry in web.endpoints if pod_at(cluster, entry) == met(trace)]
    after = tracer.reprogrammed(compile_all(with_services(cluster, [replace(web, endpoints=tuple(kept))])))
    again = after.from_pod("default/client", web.cluster_ip, ports(web))
    assert met(again) == met(trace)
    assert_conversation(after, again, "pod/default/client", web.cluster_ip, 80)


@pytest.mark.parametrize("mode", MODES)
def test_the_kernels_get_the_answers_of_what_they_turned_and_nothing_else(mode: Mode) -> None:
    """``proxy`` is a kernel's: a packet from client to a cluster IP, turned by the kernel to web-0 on the same node."""
    cluster = one_service(mode, "nftables")
    client, web_0 = cluster.pod_by_key["default/client"], cluster.pod_by_key["default/web-0"]
    (web,) = cluster.service_ports
    tracer = follow(cluster)
    to_kernel = tracer.from_pod(client.key, web.cluster_ip, ports(web))
    assert any("out by 2" in hop.text for hop in to_kernel.hops)  # the kernel, where the tracer's route sends it back
    directly = tracer.from_pod(client.key, web_0.pod_ip, Ports("TCP", 50000, 8080))
    answer = tracer.answer(directly.deliveries[0])
    assert [hop.place for hop in answer.hops] == ["n1 bridge"]
    turned = tracer.from_kernel("n1", client.pod_ip, web_0.pod_ip, Ports("TCP", CLIENT_PORT, 8080))
    answer = tracer.answer(turned.deliveries[0])
    assert "out by 2" in answer.hops[0].text
