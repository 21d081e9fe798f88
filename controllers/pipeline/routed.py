"""L3Forwarding in routed mode: packets for other nodes' pods go to the node's kernel, which routes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controllers.pipeline.fields import family
from controllers.pipeline.flow import Flow, match
from controllers.pipeline.pods import to_gateway
from controllers.pipeline.tables import FORWARD_NODE_CIDR, L3_FORWARDING, REG_SOURCE, TO_KERNEL, node_cookie
from testbed.cluster.values import NodeNetwork


def routed_flows(node: NodeNetwork, others: Iterable[NodeNetwork]) -> Iterator[Flow]:
    """All flows of the mode for one node."""
    for other in others:
        yield remote_node_flow(node, other)


def remote_node_flow(node: NodeNetwork, other: NodeNetwork) -> Flow:
    """The flow that hands packets for another node's pods to this node's kernel.

    Only from pods here, and what a Service turned: what the kernel itself sends to a pod must not go back to it.
    """
    addresses = family(other.pod_cidr)
    return Flow(
        L3_FORWARDING,
        FORWARD_NODE_CIDR,
        match(**{REG_SOURCE: TO_KERNEL}, eth_type=addresses.eth_type, **{addresses.destination: other.pod_cidr}),
        to_gateway(node),
        node_cookie(other.name),
    )
