"""What the flows promise, for any cluster: what should arrive does so once, and nothing else arrives at all."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from controllers.pipeline import ClusterTracer, Part, Parts, Program, Trace, TraceError, compile_all, compile_flows
from controllers.pipeline.cluster_tracer import ip_packet
from controllers.pipeline.fields import ARP_REPLY, ARP_REQUEST, ETH_TYPE_ARP, ETH_TYPE_IPV4
from controllers.pipeline.flow import Flow, GotoTable, match, set_field
from controllers.pipeline.program import NO_PARTS
from controllers.pipeline.tables import FROM_GATEWAY, FROM_TUNNEL, L3_FORWARDING, REG_SOURCE, REG_TARGET
from controllers.pipeline.tracer import Packet
from testbed.cluster.identity import GATEWAY_OF_PORT, TUNNEL_OF_PORT, VIRTUAL_ROUTER_MAC
from testbed.cluster.values import ClusterState, Mode, PodNetwork
from tests.unit.pipeline_states import CLUSTER_CIDR, clusters, two_nodes

WORLD = IPv4Address("203.0.113.9")
BROADCAST_MAC = "ff:ff:ff:ff:ff:ff"
FORGED_MAC = "0a:58:00:00:00:99"


def mac(text: str) -> int:
    return int(text.replace(":", ""), 16)


def tracer(cluster: ClusterState) -> ClusterTracer:
    return ClusterTracer(cluster, compile_all(cluster))


def program(flows: Iterable[Flow]) -> Program:
    return Program(NO_PARTS, Parts({("test",): Part(tuple(flows))}))


def without(complete: Program, flow: Flow) -> Program:
    return program(other for other in complete.flows() if other is not flow)


def only_delivery(trace: Trace, receiver: str) -> Packet:
    """The packet that ``receiver`` got; fails unless it got exactly one and nothing else happened."""
    assert [delivery.receiver for delivery in trace.deliveries] == [receiver], trace
    assert trace.drops == ()
    return trace.deliveries[0].packet


@given(clusters())
@settings(max_examples=60, deadline=None)
def test_every_pod_reaches_every_other_exactly_once(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for source, target in permutations(cluster.pods, 2):
        packet = only_delivery(follow.from_pod(source.key, target.pod_ip), f"pod/{target.key}")
        same_node = source.node_name == target.node_name
        there = cluster.node_by_name[target.node_name]
        assert packet["eth_dst"] == mac(target.pod_mac)
        assert packet["eth_src"] == mac(source.pod_mac if same_node else there.gateway_mac)
        assert packet["ipv4_src"] == int(source.pod_ip)  # no NAT
        # One routing hop in the overlay, the two nodes' kernels when routed, none on one node.
        hops = 0 if same_node else {"overlay": 1, "routed": 2}[cluster.config.mode]
        assert packet["ip_ttl"] == 64 - hops


@given(clusters())
@settings(max_examples=60, deadline=None)
def test_every_node_reaches_every_pod_and_back_exactly_once(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for pod in cluster.pods:
        for node in cluster.nodes:
            packet = only_delivery(follow.from_node(node.name, pod.pod_ip), f"pod/{pod.key}")
            by_bridge = cluster.config.mode == "overlay" or pod.node_name == node.name
            assert packet["ipv4_src"] == int(node.gateway_ip if by_bridge else node.node_ip)
            for address in (node.node_ip, node.gateway_ip):
                packet = only_delivery(follow.from_pod(pod.key, address), f"node/{node.name}")
                assert packet["ipv4_src"] == int(pod.pod_ip)


@given(clusters(mode="routed"), st.data())
@settings(max_examples=60, deadline=None)
def test_every_mixture_of_modes_delivers_while_the_kernels_have_the_routes(
    cluster: ClusterState, data: st.DataObject
) -> None:
    """Bridges are switched one by one. With the routed mode's routes in place no packet is lost at any moment."""
    by_mode: dict[Mode, dict[str, Program]] = {"routed": compile_all(cluster)}
    overlay_state = ClusterState(
        config=type(cluster.config)(mode="overlay", cluster_cidr=CLUSTER_CIDR), nodes=cluster.nodes, pods=cluster.pods
    )
    by_mode["overlay"] = compile_all(overlay_state)
    modes: dict[str, Mode] = {node.name: data.draw(st.sampled_from(("overlay", "routed"))) for node in cluster.nodes}
    follow = ClusterTracer(cluster, {name: by_mode[mode][name] for name, mode in modes.items()})
    for source, target in permutations(cluster.pods, 2):
        only_delivery(follow.from_pod(source.key, target.pod_ip), f"pod/{target.key}")


@given(clusters(), st.data())
@settings(max_examples=60, deadline=None)
def test_a_packet_to_nobody_arrives_nowhere_and_does_not_circle(cluster: ClusterState, data: st.DataObject) -> None:
    assume(cluster.pods)
    source = data.draw(st.sampled_from(cluster.pods))
    # Anywhere in the cluster CIDR, and with some luck in a node's.
    cidr = data.draw(st.sampled_from([CLUSTER_CIDR, *(node.pod_cidr for node in cluster.nodes)]))
    address = cidr[data.draw(st.integers(0, cidr.num_addresses - 1))]
    assume(address not in {pod.pod_ip for pod in cluster.pods} | {node.gateway_ip for node in cluster.nodes})
    follow = tracer(cluster)
    node = cluster.node_by_name[source.node_name]
    forced = ip_packet(source.pod_mac, node.gateway_mac, source.pod_ip, address)
    for trace in (
        follow.from_pod(source.key, address),
        follow.from_node(node.name, address),
        follow.inject(node.name, source.of_port, forced),
    ):
        assert trace.deliveries == ()
        assert len(trace.drops) == 1


def forged_packets(cluster: ClusterState, pod: PodNetwork, victim: PodNetwork) -> dict[str, Packet]:
    """What a pod must not be able to send, by what is forged."""
    node = cluster.node_by_name[pod.node_name]
    honest = ip_packet(pod.pod_mac, node.gateway_mac, pod.pod_ip, victim.pod_ip)
    arp = {
        "eth_type": ETH_TYPE_ARP,
        "eth_src": mac(pod.pod_mac),
        "eth_dst": mac(BROADCAST_MAC),
        "arp_op": ARP_REQUEST,
        "arp_spa": int(pod.pod_ip),
        "arp_sha": mac(pod.pod_mac),
        "arp_tpa": int(node.gateway_ip),
        "arp_tha": 0,
    }
    return {
        "another address": {**honest, "ipv4_src": int(victim.pod_ip)},
        "the gateway's address": {**honest, "ipv4_src": int(node.gateway_ip)},
        "another MAC": {**honest, "eth_src": mac(FORGED_MAC)},
        "another protocol": {"eth_type": 0x88CC, "eth_src": mac(pod.pod_mac), "eth_dst": mac(victim.pod_mac)},
        "another address in ARP": {**arp, "arp_spa": int(victim.pod_ip)},
        "another MAC in ARP": {**arp, "arp_sha": mac(FORGED_MAC)},
        "another MAC around ARP": {**arp, "eth_src": mac(FORGED_MAC)},
        "an unasked ARP reply": {**arp, "arp_op": ARP_REPLY, "arp_tpa": int(victim.pod_ip)},
    }


@given(clusters())
@settings(max_examples=40, deadline=None)
def test_forged_packets_go_nowhere(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for pod, victim in permutations(cluster.pods, 2):
        for what, packet in forged_packets(cluster, pod, victim).items():
            trace = follow.inject(pod.node_name, pod.of_port, packet)
            assert trace.deliveries == (), what
            assert len(trace.drops) == 1, what


@given(clusters())
@settings(max_examples=40, deadline=None)
def test_what_the_tunnel_brings_goes_to_pods_here_or_nowhere(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for node in cluster.nodes:
        for address in [*(pod.pod_ip for pod in cluster.pods), WORLD, node.node_ip, CLUSTER_CIDR[-2]]:
            trace = follow.inject(
                node.name, TUNNEL_OF_PORT, ip_packet("0e:01:00:00:00:63", node.vtep_mac, WORLD, address)
            )
            here = [f"pod/{pod.key}" for pod in cluster.pods_by_node[node.name] if pod.pod_ip == address]
            assert [delivery.receiver for delivery in trace.deliveries] == here
            assert len(trace.hops) == len(here)  # in particular: it does not leave by the tunnel again
        stray = ip_packet("0e:01:00:00:00:63", FORGED_MAC, WORLD, node.gateway_ip)
        assert follow.inject(node.name, TUNNEL_OF_PORT, stray).deliveries == ()


@given(clusters())
@settings(max_examples=40, deadline=None)
def test_arp_is_answered_for_the_gateway_and_the_nodes_own_pods_only(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for pod in cluster.pods:
        node = cluster.node_by_name[pod.node_name]
        for target in cluster.pods:
            answer = follow.resolve(node, pod.of_port, pod.pod_ip, pod.pod_mac, target.pod_ip)
            assert answer == (mac(target.pod_mac) if target.node_name == node.name else None)
        assert follow.resolve(node, pod.of_port, pod.pod_ip, pod.pod_mac, node.gateway_ip) == mac(node.gateway_mac)
        assert follow.resolve(node, GATEWAY_OF_PORT, node.gateway_ip, node.gateway_mac, pod.pod_ip) == mac(pod.pod_mac)
        assert follow.resolve(node, pod.of_port, pod.pod_ip, pod.pod_mac, WORLD) is None


@given(clusters())
@settings(max_examples=20, deadline=None)
def test_a_pod_reaches_the_world_by_its_nodes_kernel(cluster: ClusterState) -> None:
    follow = tracer(cluster)
    for pod in cluster.pods:
        trace = follow.from_pod(pod.key, WORLD)
        assert [(drop.place, drop.text) for drop in trace.drops] == [
            (f"{pod.node_name} kernel", f"no route to {WORLD}")
        ]


def test_the_tracer_notices_a_loop() -> None:
    """Two bridges: what the tunnel brings goes to the kernel, what the kernel sends goes into the tunnel."""
    cluster = two_nodes("overlay")
    programs = {}
    for node, other in permutations(cluster.nodes, 2):
        others = [flow for flow in compile_flows(cluster, node.name) if flow.table is not L3_FORWARDING]
        from_tunnel = match(eth_type=ETH_TYPE_IPV4, **{REG_SOURCE: FROM_TUNNEL})
        from_gateway = match(eth_type=ETH_TYPE_IPV4, **{REG_SOURCE: FROM_GATEWAY})
        up = (set_field("eth_dst", node.gateway_mac), set_field(REG_TARGET, GATEWAY_OF_PORT), GotoTable("Output"))
        away = (set_field("eth_dst", other.vtep_mac), set_field(REG_TARGET, TUNNEL_OF_PORT), GotoTable("Output"))
        circling = (Flow(L3_FORWARDING, 1, from_tunnel, up, 1), Flow(L3_FORWARDING, 1, from_gateway, away, 1))
        programs[node.name] = program((*others, *circling))
    packet = ip_packet(cluster.nodes[0].gateway_mac, VIRTUAL_ROUTER_MAC, WORLD, CLUSTER_CIDR[-2])
    with pytest.raises(TraceError, match="goes round"):
        ClusterTracer(cluster, programs).inject("n1", GATEWAY_OF_PORT, packet)


def test_the_tracer_notices_a_flow_that_is_missing() -> None:
    """The properties above are worth something only if a broken table breaks them."""
    cluster = two_nodes("overlay")
    complete = compile_all(cluster)
    source, target = cluster.pods[0], cluster.pods[2]
    lost = [
        flow
        for flow in complete["n1"].flows()
        if not ClusterTracer(cluster, {**complete, "n1": without(complete["n1"], flow)})
        .from_pod(source.key, target.pod_ip)
        .deliveries
    ]
    # In, own addresses, ARP asked and answered, past what Services need, towards n2, out.
    assert [flow.table.name for flow in lost] == [
        "Classifier",
        "SpoofGuard",
        "SpoofGuard",
        "ARPResponder",
        "UnSNAT",
        "NodePortMark",
        "L3Forwarding",
        "Output",
    ]
