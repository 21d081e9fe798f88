"""L3Forwarding and Output, the part both modes share: to this node's pods, and to and from its gateway."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.fields import family
from controllers.pipeline.flow import Actions, Flow, ForgetInPort, GotoTable, Match, OutputField, match, set_field
from controllers.pipeline.tables import (
    FORWARD_ADDRESS,
    FORWARD_DEFAULT,
    FORWARD_FROM_TUNNEL,
    FORWARD_NODE_CIDR,
    FROM_GATEWAY,
    FROM_TUNNEL,
    L3_FORWARDING,
    NORMAL,
    OUTPUT,
    REG_SOURCE,
    REG_TARGET,
    TO_KERNEL,
    cluster_cookie,
    node_cookie,
    pod_cookie,
)
from testbed.cluster.identity import GATEWAY_OF_PORT
from testbed.cluster.values import IPAddress, NodeNetwork, PodNetwork


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield own_gateway_flow(node)
    yield own_address_flow(node)
    yield tunnel_end_flow(node)
    yield unknown_pod_flow(node)
    yield default_flow(node)
    yield output_flow()


def pod_flows(pod: PodNetwork) -> Iterator[Flow]:
    """What a pod adds on its node."""
    yield pod_flow(pod)


def to_gateway(node: NodeNetwork) -> Actions:
    """Hand a packet to the node's kernel."""
    return (
        set_field("eth_dst", node.gateway_mac),
        set_field(REG_TARGET, GATEWAY_OF_PORT),
        GotoTable(OUTPUT.name),
    )


def pod_flow(pod: PodNetwork) -> Flow:
    """The flow that delivers to a pod of this node, wherever the packet came from."""
    return Flow(
        L3_FORWARDING,
        FORWARD_ADDRESS,
        _to_address(pod.pod_ip),
        (set_field("eth_dst", pod.pod_mac), set_field(REG_TARGET, pod.of_port), GotoTable(OUTPUT.name)),
        pod_cookie(pod.key),
    )


def own_gateway_flow(node: NodeNetwork) -> Flow:
    """The flow that delivers to the node itself by its address on the bridge (pods here and elsewhere reply to it)."""
    return Flow(L3_FORWARDING, FORWARD_ADDRESS, _to_address(node.gateway_ip), to_gateway(node), node_cookie(node.name))


def own_address_flow(node: NodeNetwork) -> Flow:
    """The flow that gives the node's kernel back what it sent to the node's own address.

    It asked whether a Service has this port of the node, and none has.
    """
    addresses = family(node.node_ip)
    return Flow(
        L3_FORWARDING,
        FORWARD_ADDRESS,
        match(
            **{REG_SOURCE: FROM_GATEWAY, addresses.destination: node.node_ip},
            eth_type=addresses.eth_type,
        ),
        (ForgetInPort(), *to_gateway(node)),
        node_cookie(node.name),
    )


def tunnel_end_flow(node: NodeNetwork) -> Flow:
    """The flow that drops what came by the tunnel and is for nobody here: it must not travel on, or it could circle."""
    return Flow(
        L3_FORWARDING,
        FORWARD_FROM_TUNNEL,
        match(**{REG_SOURCE: FROM_TUNNEL}, eth_type=family(node.gateway_ip).eth_type),
        (),
        node_cookie(node.name),
    )


def unknown_pod_flow(node: NodeNetwork) -> Flow:
    """The flow that drops packets to addresses of this node's pod CIDR which no pod has."""
    addresses = family(node.pod_cidr)
    return Flow(
        L3_FORWARDING,
        FORWARD_NODE_CIDR,
        match(eth_type=addresses.eth_type, **{addresses.destination: node.pod_cidr}),
        (),
        node_cookie(node.name),
    )


def default_flow(node: NodeNetwork) -> Flow:
    """The flow that hands everything else to the node's kernel, as its pods' router: to nodes, to the world.

    From pods here, and what a Service turned. Not what the kernel sent itself, or it would come back for ever.
    """
    return Flow(
        L3_FORWARDING,
        FORWARD_DEFAULT,
        match(**{REG_SOURCE: TO_KERNEL}, eth_type=family(node.gateway_ip).eth_type),
        to_gateway(node),
        node_cookie(node.name),
    )


def output_flow() -> Flow:
    """The flow that sends each packet out of the port chosen before."""
    return Flow(OUTPUT, NORMAL, (), (OutputField(REG_TARGET),), cluster_cookie())


def _to_address(address: IPAddress) -> Match:
    addresses = family(address)
    return match(eth_type=addresses.eth_type, **{addresses.destination: address})
