"""SpoofGuard: a pod may send only with its own addresses. The node's kernel is trusted: it forwards for others."""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.fields import ETH_TYPE_ARP, family
from controllers.pipeline.flow import Flow, GotoTable, match
from controllers.pipeline.tables import ARP_RESPONDER, NORMAL, SPOOF_GUARD, UN_SNAT, node_cookie, pod_cookie
from testbed.cluster.identity import GATEWAY_OF_PORT
from testbed.cluster.values import NodeNetwork, PodNetwork


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield gateway_ip_flow(node)
    yield gateway_arp_flow(node)


def pod_flows(pod: PodNetwork) -> Iterator[Flow]:
    """What a pod adds on its node."""
    yield pod_ip_flow(pod)
    yield pod_arp_flow(pod)


def gateway_ip_flow(node: NodeNetwork) -> Flow:
    """The flow that lets IP packets of the node's kernel pass, whatever their source."""
    return Flow(
        SPOOF_GUARD,
        NORMAL,
        match(in_port=GATEWAY_OF_PORT, eth_type=family(node.gateway_ip).eth_type),
        (GotoTable(UN_SNAT.name),),
        node_cookie(node.name),
    )


def gateway_arp_flow(node: NodeNetwork) -> Flow:
    """The flow that lets the node's kernel ask for its pods' MACs."""
    return Flow(
        SPOOF_GUARD,
        NORMAL,
        match(in_port=GATEWAY_OF_PORT, eth_type=ETH_TYPE_ARP),
        (GotoTable(ARP_RESPONDER.name),),
        node_cookie(node.name),
    )


def pod_ip_flow(pod: PodNetwork) -> Flow:
    """The flow that lets IP packets pass that carry the pod's own MAC and address as source."""
    addresses = family(pod.pod_ip)
    return Flow(
        SPOOF_GUARD,
        NORMAL,
        match(
            in_port=pod.of_port,
            eth_type=addresses.eth_type,
            eth_src=pod.pod_mac,
            **{addresses.source: pod.pod_ip},
        ),
        (GotoTable(UN_SNAT.name),),
        pod_cookie(pod.key),
    )


def pod_arp_flow(pod: PodNetwork) -> Flow:
    """The flow that lets ARP pass in which the pod speaks for itself, in the frame and in the message."""
    return Flow(
        SPOOF_GUARD,
        NORMAL,
        match(
            in_port=pod.of_port,
            eth_type=ETH_TYPE_ARP,
            eth_src=pod.pod_mac,
            arp_spa=pod.pod_ip,
            arp_sha=pod.pod_mac,
        ),
        (GotoTable(ARP_RESPONDER.name),),
        pod_cookie(pod.key),
    )
