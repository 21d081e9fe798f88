"""Where the nodes' kernels do the Services: what one turned to an endpoint must come back through it.

An endpoint and its client may be on one bridge, or joined by the tunnel. Then the answer would pass the kernel by, and
the client would see an endpoint's address instead of the Service's. So connections of this node's pods that come out of
its kernel are remembered, and their answers go back to it. Pods that talk to each other directly never meet the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.conntrack import fragment_flow, not_an_endpoint_flow
from controllers.pipeline.fields import ICMP_ERRORS, IP_PROTO_ICMP, FieldValue, family
from controllers.pipeline.flow import Action, Conntrack, Flow, GotoTable, match
from controllers.pipeline.pods import to_gateway
from controllers.pipeline.tables import (
    CONNTRACK,
    CONNTRACK_STATE,
    ENDPOINT_REPLY,
    FROM_GATEWAY,
    FROM_POD,
    FROM_TUNNEL,
    KERNEL_ZONE,
    L3_FORWARDING,
    OTHERWISE,
    REG_SOURCE,
    STATE_KNOWN,
    TRACK_CLUSTER_CIDR,
    TRACK_ERROR,
    TRACK_OWN_CIDR,
    TRACK_SERVICE,
    UN_SNAT,
    Table,
    node_cookie,
)
from testbed.cluster.values import NodeNetwork

LOOK_UP = Conntrack(KERNEL_ZONE, CONNTRACK_STATE.name)


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield _flow(UN_SNAT, OTHERWISE, node, (GotoTable(CONNTRACK.name),))
    yield own_flow(node)
    yield turned_flow(node)
    for icmp_type in ICMP_ERRORS:
        yield error_flow(node, icmp_type)
    for source in (FROM_POD, FROM_TUNNEL):
        yield to_here_flow(node, source)
    yield _flow(CONNTRACK, OTHERWISE, node, (GotoTable(L3_FORWARDING.name),))
    yield fragment_flow(node, LOOK_UP)
    yield not_an_endpoint_flow(node)
    yield answer_flow(node)
    yield _flow(CONNTRACK_STATE, OTHERWISE, node, (GotoTable(L3_FORWARDING.name),))


def own_flow(node: NodeNetwork) -> Flow:
    """The flow for what the node itself sends: answers to it go to its kernel anyway."""
    itself = {REG_SOURCE: FROM_GATEWAY, family(node.gateway_ip).source: node.gateway_ip}
    return _flow(CONNTRACK, TRACK_SERVICE, node, (GotoTable(L3_FORWARDING.name),), **itself)


def turned_flow(node: NodeNetwork) -> Flow:
    """The flow that remembers a connection of a pod here that comes out of the kernel: it was turned to an endpoint."""
    actions = (Conntrack(KERNEL_ZONE, commit=True), GotoTable(L3_FORWARDING.name))
    ours = {REG_SOURCE: FROM_GATEWAY, family(node.pod_cidr).source: node.pod_cidr}
    return _flow(CONNTRACK, TRACK_OWN_CIDR, node, actions, **ours)


def error_flow(node: NodeNetwork, icmp_type: int) -> Flow:
    """The flow that looks up ICMP errors to pods here: one about an endpoint may be the kernel's to translate."""
    to_here = {family(node.pod_cidr).destination: node.pod_cidr}
    return _flow(CONNTRACK, TRACK_ERROR, node, (LOOK_UP,), ip_proto=IP_PROTO_ICMP, icmp_type=icmp_type, **to_here)


def to_here_flow(node: NodeNetwork, source: int) -> Flow:
    """The flow for what goes to pods here and does not come out of the kernel: it may be an endpoint's answer."""
    to_here = {REG_SOURCE: source, family(node.pod_cidr).destination: node.pod_cidr}
    return _flow(CONNTRACK, TRACK_CLUSTER_CIDR, node, (GotoTable(ENDPOINT_REPLY.name),), **to_here)


def answer_flow(node: NodeNetwork) -> Flow:
    """The flow that gives answers of connections that the kernel turned back to it."""
    return _flow(CONNTRACK_STATE, STATE_KNOWN, node, to_gateway(node), ct_state="+rpl+trk")


def _flow(table: Table, priority: int, node: NodeNetwork, actions: tuple[Action, ...], **fields: FieldValue) -> Flow:
    conditions = match(eth_type=family(node.node_ip).eth_type, **fields)
    return Flow(table, priority, conditions, actions, node_cookie(node.name))
