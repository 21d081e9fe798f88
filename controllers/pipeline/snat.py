"""UnSNAT and SNAT: clients whose address an endpoint must not see are masked by the node's masquerade address.

That is needed where an answer would otherwise not come back here: a pod that reaches itself would answer itself, and
what came by the node's kernel may be answered by another way. What is sent to the masquerade address comes back in both
modes.
"""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.fields import FieldValue, family
from controllers.pipeline.flow import Action, Conntrack, Flow, ForgetInPort, GotoTable, Nat, match, set_field
from controllers.pipeline.tables import (
    CONNTRACK,
    FROM_SERVICE,
    HAIRPIN,
    L3_FORWARDING,
    MASQUERADE_MARK,
    NODE_PORT_MARK,
    NORMAL,
    OTHERWISE,
    REG_DESTINATION,
    REG_SOURCE,
    SNAT,
    SNAT_ZONE,
    TO_NODE,
    UN_SNAT,
    Table,
    node_cookie,
    pod_cookie,
)
from testbed.cluster.values import NodeNetwork, PodNetwork

# A Service has turned the packet: it may leave by the port it came by, and to the node's kernel.
_TURNED: tuple[Action, ...] = (set_field(REG_SOURCE, FROM_SERVICE), ForgetInPort())


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield unmask_flow(node)
    yield not_masked_flow(node)
    yield to_node_flow(node)
    yield not_to_node_flow(node)
    yield marked_flow(node)
    yield not_marked_flow(node)


def pod_flows(node: NodeNetwork, pod: PodNetwork) -> Iterator[Flow]:
    """What a pod adds on its node."""
    yield hairpin_flow(node, pod)


def unmask_flow(node: NodeNetwork) -> Flow:
    """The flow that gives an answer to the masquerade address its client's address back."""
    unmask = (*_TURNED, Conntrack(SNAT_ZONE, CONNTRACK.name, nat=Nat()))
    return _flow(UN_SNAT, NORMAL, node, unmask, **{family(node.pod_cidr).destination: node.masquerade_ip})


def not_masked_flow(node: NodeNetwork) -> Flow:
    """The flow that passes on everything else."""
    return _flow(UN_SNAT, OTHERWISE, node, (GotoTable(NODE_PORT_MARK.name),))


def to_node_flow(node: NodeNetwork) -> Flow:
    """The flow that marks what goes to the node's own address, so that all nodes' flows for node ports are alike."""
    mark = (set_field(REG_DESTINATION, TO_NODE), GotoTable(CONNTRACK.name))
    return _flow(NODE_PORT_MARK, NORMAL, node, mark, **{family(node.node_ip).destination: node.node_ip})


def not_to_node_flow(node: NodeNetwork) -> Flow:
    """The flow that passes on everything else."""
    return _flow(NODE_PORT_MARK, OTHERWISE, node, (GotoTable(CONNTRACK.name),))


def marked_flow(node: NodeNetwork) -> Flow:
    """The flow that masks clients of whose connections that was decided when they began."""
    return _flow(SNAT, NORMAL, node, _mask(node), ct_mark=MASQUERADE_MARK)


def hairpin_flow(node: NodeNetwork, pod: PodNetwork) -> Flow:
    """The flow that masks a pod from itself, when a Service gave it its own connection."""
    addresses = family(pod.pod_ip)
    itself = match(eth_type=addresses.eth_type, **{addresses.source: pod.pod_ip, addresses.destination: pod.pod_ip})
    return Flow(SNAT, HAIRPIN, itself, _mask(node), pod_cookie(pod.key))


def not_marked_flow(node: NodeNetwork) -> Flow:
    """The flow that leaves all other clients their addresses."""
    return _flow(SNAT, OTHERWISE, node, (*_TURNED, GotoTable(L3_FORWARDING.name)))


def _mask(node: NodeNetwork) -> tuple[Action, ...]:
    # Commits the first packet; for later ones the entry decides, as ovs-actions(7) says of nat with commit.
    return (*_TURNED, Conntrack(SNAT_ZONE, L3_FORWARDING.name, commit=True, nat=Nat("src", node.masquerade_ip)))


def _flow(table: Table, priority: int, node: NodeNetwork, actions: tuple[Action, ...], **fields: FieldValue) -> Flow:
    conditions = match(eth_type=family(node.node_ip).eth_type, **fields)
    return Flow(table, priority, conditions, actions, node_cookie(node.name))
