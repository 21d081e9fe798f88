"""Classifier: where a packet came from. Nothing enters the pipeline by a port that no flow here names."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.flow import Flow, GotoTable, match, set_field
from controllers.pipeline.tables import (
    CLASSIFIER,
    FROM_GATEWAY,
    FROM_POD,
    FROM_TUNNEL,
    NORMAL,
    REG_SOURCE,
    SPOOF_GUARD,
    UN_SNAT,
    node_cookie,
    pod_cookie,
)
from testbed.cluster.identity import GATEWAY_OF_PORT, TUNNEL_OF_PORT
from testbed.cluster.values import NodeNetwork, PodNetwork


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield tunnel_flow(node)
    yield gateway_flow(node)


def pod_flows(pod: PodNetwork) -> Iterator[Flow]:
    """What a pod adds on its node."""
    yield pod_flow(pod)


def tunnel_flow(node: NodeNetwork) -> Flow:
    """The flow that takes what other nodes sent to this node's VTEP.

    Its senders were checked where they are. It arrives as if routed, so it goes on with the gateway's MAC as source.
    The flow is there in both modes: while modes are switched, a packet that is still in the tunnel is delivered.
    """
    return Flow(
        CLASSIFIER,
        NORMAL,
        match(in_port=TUNNEL_OF_PORT, eth_dst=node.vtep_mac),
        (set_field(REG_SOURCE, FROM_TUNNEL), set_field("eth_src", node.gateway_mac), GotoTable(UN_SNAT.name)),
        node_cookie(node.name),
    )


def gateway_flow(node: NodeNetwork) -> Flow:
    """The flow that takes what the node's kernel sends into its bridge."""
    return Flow(
        CLASSIFIER,
        NORMAL,
        match(in_port=GATEWAY_OF_PORT),
        (set_field(REG_SOURCE, FROM_GATEWAY), GotoTable(SPOOF_GUARD.name)),
        node_cookie(node.name),
    )


def pod_flow(pod: PodNetwork) -> Flow:
    """The flow that takes what a pod sends."""
    return Flow(
        CLASSIFIER,
        NORMAL,
        match(in_port=pod.of_port),
        (set_field(REG_SOURCE, FROM_POD), GotoTable(SPOOF_GUARD.name)),
        pod_cookie(pod.key),
    )
