"""ServiceLB and Reject: new connections to a Service's port are given to one of its endpoints, or refused.

All flows here are the same on every node. What differs is in the groups: under a Local traffic policy every node has
a group of its own endpoints, and one that has none drops, as Kubernetes wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from controllers.pipeline import affinity
from controllers.pipeline.conntrack import to_node_port_flow
from controllers.pipeline.fields import TRANSPORTS, FieldValue, family
from controllers.pipeline.flow import (
    Action,
    Conntrack,
    Flow,
    ForgetInPort,
    GotoTable,
    Group,
    Nat,
    ToGroup,
    match,
    set_field,
)
from controllers.pipeline.groups import CHOOSE_BY, service_group
from controllers.pipeline.program import Part
from controllers.pipeline.tables import (
    NORMAL,
    OTHERWISE,
    OUTPUT,
    OUTSIDE,
    REG_CLIENT,
    REG_DESTINATION,
    REG_MASQUERADE,
    REG_TARGET,
    REJECT,
    SERVICE_ADDRESS,
    SERVICE_LB,
    SERVICE_OUTSIDE,
    SERVICE_PORT,
    SNAT_ZONE,
    TO_NODE_PORT,
    address_cookie,
    node_cookie,
    service_cookie,
)
from testbed.cluster.identity import GATEWAY_OF_PORT, REJECT_MAC, group_id
from testbed.cluster.values import IPAddress, NodeNetwork, ServiceEndpoint, ServicePort


def has_local_group(port: ServicePort) -> bool:
    """Whether nodes need groups of their own endpoints for this port."""
    outside = port.node_port is not None or port.load_balancer_ip is not None
    return bool(port.cluster_endpoints) and (port.internal_local or (port.external_local and outside))


def has_cluster_group(port: ServicePort) -> bool:
    """Whether some client may be given any endpoint of this port."""
    outside = port.node_port is not None or port.load_balancer_ip is not None
    return bool(port.cluster_endpoints) and (not port.internal_local or outside)


def common_part(port: ServicePort) -> Part:
    """What a Service's port adds on every node."""
    flows = list(frontend_flows(port))
    groups: tuple[Group, ...] = ()
    if has_cluster_group(port):
        group = service_group(port, port.cluster_endpoints, local=False)
        groups = (group,)
        flows += affinity.flows(port, group.group_id, port.cluster_endpoints)
    return Part(tuple(flows), groups)


def refusing_part(port: ServicePort) -> Part:
    """The same for a port that cannot be programmed: its connections are refused."""
    return common_part(replace(port, endpoints=()))


def local_part(port: ServicePort, endpoints: tuple[ServiceEndpoint, ...]) -> Part:
    """What a port with a Local traffic policy adds on a node that has these endpoints."""
    group = service_group(port, endpoints, local=True)
    return Part(tuple(affinity.flows(port, group.group_id, endpoints)), (group,))


def frontend_flows(port: ServicePort) -> Iterator[Flow]:
    """The flows for all addresses and ports by which a Service's port can be reached."""
    yield cluster_ip_flow(port)
    if port.load_balancer_ip is not None:
        yield from load_balancer_flows(port, port.load_balancer_ip)
    if port.node_port is not None:
        yield to_node_port_flow(port, port.node_port)
        yield from node_port_flows(port, port.node_port)


def cluster_ip_flow(port: ServicePort) -> Flow:
    """The flow for connections to a Service's cluster IP: any endpoint, or the node's own by the internal policy."""
    return _frontend(port, SERVICE_PORT, port.internal_local, (), _address(port, port.cluster_ip, port.service_port))


def load_balancer_flows(port: ServicePort, load_balancer_ip: IPAddress) -> Iterator[Flow]:
    """The flows for connections to a Service's load balancer address, by the external policy."""
    yield from _external(port, _address(port, load_balancer_ip, port.service_port))


def node_port_flows(port: ServicePort, node_port: int) -> Iterator[Flow]:
    """The flows for connections to a Service's port on this node's address, by the external policy."""
    transport = TRANSPORTS[port.protocol]
    yield from _external(
        port,
        {
            REG_DESTINATION: TO_NODE_PORT,
            "eth_type": family(port.cluster_ip).eth_type,
            "ip_proto": transport.ip_proto,
            transport.destination: node_port,
        },
    )


def other_ports_part(cluster_ip: IPAddress) -> Part:
    """What a cluster IP adds, whichever Services' ports it has."""
    return Part((other_ports_flow(cluster_ip),))


def other_ports_flow(cluster_ip: IPAddress) -> Flow:
    """The flow that refuses what goes to a port that the Service does not have."""
    addresses = family(cluster_ip)
    conditions = match(eth_type=addresses.eth_type, **{addresses.destination: cluster_ip})
    return Flow(SERVICE_LB, SERVICE_ADDRESS, conditions, (GotoTable(REJECT.name),), address_cookie(cluster_ip))


def node_flows(node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield reject_flow(node)
    yield reject_masked_flow(node)


def reject_flow(node: NodeNetwork) -> Flow:
    """The flow that has the node's kernel refuse a connection: by a source MAC that nobody has, it knows what to do.

    Flows cannot make a TCP reset or an ICMP error.
    """
    return _reject(node, OTHERWISE, GotoTable(OUTPUT.name))


def reject_masked_flow(node: NodeNetwork) -> Flow:
    """The flow for clients that are the node itself: its kernel sends itself no ICMP error in a Service's name.

    So it refuses the masquerade address, and UnSNAT turns the refusal into one for the client.
    """
    mask = Conntrack(SNAT_ZONE, OUTPUT.name, commit=True, nat=Nat("src", node.masquerade_ip))
    return _reject(node, NORMAL, mask, **{REG_MASQUERADE: 1, REG_CLIENT: 0})


def _reject(node: NodeNetwork, priority: int, last: Action, **conditions: FieldValue) -> Flow:
    return Flow(
        REJECT,
        priority,
        match(eth_type=family(node.node_ip).eth_type, **conditions),
        (
            set_field("eth_src", REJECT_MAC),
            set_field("eth_dst", node.gateway_mac),
            set_field(REG_TARGET, GATEWAY_OF_PORT),
            ForgetInPort(),
            last,
        ),
        node_cookie(node.name),
    )


def _external(port: ServicePort, conditions: dict[str, FieldValue]) -> Iterator[Flow]:
    if not port.external_local:
        # Any endpoint may be far from here, and its answer must come back here.
        yield _frontend(port, SERVICE_PORT, False, (set_field(REG_MASQUERADE, 1),), conditions)
        return
    # For clients inside the cluster, a Local policy is about how the outside comes in (as kube-proxy has it).
    yield _frontend(port, SERVICE_PORT, False, (), conditions)
    outside = {**conditions, REG_CLIENT: OUTSIDE}
    yield _frontend(port, SERVICE_OUTSIDE, True, (set_field(REG_MASQUERADE, 0),), outside)


def _frontend(
    port: ServicePort, priority: int, local: bool, first: tuple[Action, ...], conditions: dict[str, FieldValue]
) -> Flow:
    number = group_id(port.group_number, local)
    if not port.cluster_endpoints:
        actions: tuple[Action, ...] = (GotoTable(REJECT.name),)
    elif port.affinity_timeout_s is not None:
        actions = (*first, *CHOOSE_BY[port.protocol], *affinity.remembered(number))
    else:
        actions = (*first, *CHOOSE_BY[port.protocol], ToGroup(number))
    return Flow(SERVICE_LB, priority, match(**conditions), actions, service_cookie(port.key))


def _address(port: ServicePort, address: IPAddress, service_port: int) -> dict[str, FieldValue]:
    transport, addresses = TRANSPORTS[port.protocol], family(address)
    return {
        "eth_type": addresses.eth_type,
        "ip_proto": transport.ip_proto,
        addresses.destination: address,
        transport.destination: service_port,
    }
