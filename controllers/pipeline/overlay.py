"""L3Forwarding in overlay mode: packets for other nodes' pods go through the tunnel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controllers.pipeline.fields import family
from controllers.pipeline.flow import DecTTL, Flow, GotoTable, match, set_field
from controllers.pipeline.tables import (
    FORWARD_CLUSTER_CIDR,
    FORWARD_NODE_CIDR,
    L3_FORWARDING,
    OUTPUT,
    REG_TARGET,
    cluster_cookie,
    node_cookie,
)
from testbed.cluster.identity import TUNNEL_OF_PORT
from testbed.cluster.values import IPNetwork, NodeNetwork


def overlay_flows(node: NodeNetwork, others: Iterable[NodeNetwork], cluster_cidr: IPNetwork) -> Iterator[Flow]:
    """All flows of the mode for one node."""
    for other in others:
        yield remote_node_flow(node, other)
    yield nobody_flow(cluster_cidr)


def remote_node_flow(node: NodeNetwork, other: NodeNetwork) -> Flow:
    """The flow that sends packets for another node's pods, and for its gateway, to that node's VTEP.

    The destination MAC chooses the tunnel's far end: each VXLAN device knows which VTEP MAC is at which node.
    This is a routing hop, so the MACs change and the TTL goes down by one (RFC 1812 section 5.3.1).
    """
    addresses = family(other.pod_cidr)
    return Flow(
        L3_FORWARDING,
        FORWARD_NODE_CIDR,
        match(eth_type=addresses.eth_type, **{addresses.destination: other.pod_cidr}),
        (
            set_field("eth_src", node.vtep_mac),
            set_field("eth_dst", other.vtep_mac),
            DecTTL(),
            set_field(REG_TARGET, TUNNEL_OF_PORT),
            GotoTable(OUTPUT.name),
        ),
        node_cookie(other.name),
    )


def nobody_flow(cluster_cidr: IPNetwork) -> Flow:
    """The flow that drops packets to pod addresses that belong to no node.

    The kernel's route for the whole cluster CIDR points back into the bridge, so handing them over would return them.
    """
    addresses = family(cluster_cidr)
    return Flow(
        L3_FORWARDING,
        FORWARD_CLUSTER_CIDR,
        match(eth_type=addresses.eth_type, **{addresses.destination: cluster_cidr}),
        (),
        cluster_cookie(),
    )
