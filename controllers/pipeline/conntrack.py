"""Conntrack, EndpointReply, ConntrackState: which packets are looked up, and where their connection's state leads.

Only what may belong to a connection to a Service is looked up: what goes to a Service, what an endpoint sends from the
port it serves at, and errors about either. Pods that talk to each other otherwise pay nothing for Services.
"""

from __future__ import annotations

from collections.abc import Iterator

from controllers.pipeline.fields import ICMP_ERRORS, IP_FRAGMENT, IP_PROTO_ICMP, TRANSPORTS, FieldValue, family
from controllers.pipeline.flow import Action, Conntrack, Flow, ForgetInPort, GotoTable, Nat, match, set_field
from controllers.pipeline.tables import (
    CONNTRACK,
    CONNTRACK_STATE,
    DNAT_ZONE,
    ENDPOINT_REPLY,
    FROM_GATEWAY,
    FROM_POD,
    FROM_SERVICE,
    L3_FORWARDING,
    NORMAL,
    NOT_TO_SERVICE,
    OTHERWISE,
    OUTSIDE,
    REG_CLIENT,
    REG_DESTINATION,
    REG_MASQUERADE,
    REG_SOURCE,
    SERVICE_LB,
    SNAT,
    STATE_INVALID,
    STATE_KNOWN,
    STATE_NEW,
    STATE_NEW_ADDRESS,
    STATE_NEW_CIDR,
    TO_NODE,
    TO_NODE_PORT,
    TO_SERVICE,
    TO_SERVICE_ADDRESS,
    TRACK_CLUSTER_CIDR,
    TRACK_ERROR,
    TRACK_OWN_CIDR,
    TRACK_SERVICE,
    TRACK_TRACKED,
    Table,
    cluster_cookie,
    endpoint_cookie,
    node_cookie,
    service_cookie,
)
from testbed.cluster.values import IPAddress, IPNetwork, NetworkConfig, NodeNetwork, Protocol, ServicePort

# As the connection's entry says: towards the endpoint, or back with the Service's address.
LOOK_UP = Conntrack(DNAT_ZONE, CONNTRACK_STATE.name, nat=Nat())


def node_flows(config: NetworkConfig, node: NodeNetwork) -> Iterator[Flow]:
    """What every node has."""
    yield tracked_flow(node)
    for cidr in (config.service_cidr, config.load_balancer_cidr):
        yield to_service_flow(cidr)
    for icmp_type in ICMP_ERRORS:
        yield error_flow(node, icmp_type)
    yield within_node_flow(node)
    yield within_cluster_flow(node, config.cluster_cidr)
    yield other_flow(node)
    yield fragment_flow(node)
    yield not_an_endpoint_flow(node)
    yield to_endpoint_flow(node, "+est-rpl+trk")
    yield to_endpoint_flow(node, "-est+rel-rpl+trk")
    # A second datagram may come before any answer has: its connection is new still, and has its endpoint.
    yield to_endpoint_flow(node, "+dnat-est+new-rpl+trk")
    yield to_client_flow(node)
    yield invalid_flow(node)
    yield from new_from_node_flows(config, node)
    yield new_from_pod_flow(node)
    yield new_from_outside_flow(node)
    yield not_to_service_flow(node)


def tracked_flow(node: NodeNetwork) -> Flow:
    """The flow that takes what UnSNAT looked up: an endpoint's answer to a client whose address it never saw."""
    return _flow(CONNTRACK, TRACK_TRACKED, node, (LOOK_UP,), ct_state="+trk")


def to_service_flow(cidr: IPNetwork) -> Flow:
    """The flow that looks up what goes to Services' addresses."""
    addresses = family(cidr)
    return Flow(
        CONNTRACK,
        TRACK_SERVICE,
        match(eth_type=addresses.eth_type, **{addresses.destination: cidr}),
        (set_field(REG_DESTINATION, TO_SERVICE_ADDRESS), LOOK_UP),
        cluster_cookie(),
    )


def to_node_port_flow(port: ServicePort, node_port: int) -> Flow:
    """The flow that looks up what goes to a Service's port on this node's address."""
    transport = TRANSPORTS[port.protocol]
    return Flow(
        CONNTRACK,
        TRACK_SERVICE,
        match(
            **{REG_DESTINATION: TO_NODE, transport.destination: node_port},
            eth_type=family(port.cluster_ip).eth_type,
            ip_proto=transport.ip_proto,
        ),
        (set_field(REG_DESTINATION, TO_NODE_PORT), LOOK_UP),
        service_cookie(port.key),
    )


def error_flow(node: NodeNetwork, icmp_type: int) -> Flow:
    """The flow that looks up ICMP errors: one about an endpoint must reach the client as one about the Service."""
    return _flow(CONNTRACK, TRACK_ERROR, node, (LOOK_UP,), ip_proto=IP_PROTO_ICMP, icmp_type=icmp_type)


def within_node_flow(node: NodeNetwork) -> Flow:
    """The flow that takes what pods here send to pods here: it may be an endpoint's answer."""
    destination = family(node.pod_cidr).destination
    to_here = {REG_SOURCE: FROM_POD, destination: node.pod_cidr}
    return _flow(CONNTRACK, TRACK_OWN_CIDR, node, (GotoTable(ENDPOINT_REPLY.name),), **to_here)


def within_cluster_flow(node: NodeNetwork, cluster_cidr: IPNetwork) -> Flow:
    """The flow that spares packets from pods here to pods elsewhere: Services are translated on the client's node.

    And a client elsewhere that came by this node's own address has had its address replaced.
    """
    elsewhere = {REG_SOURCE: FROM_POD, family(cluster_cidr).destination: cluster_cidr}
    return _flow(CONNTRACK, TRACK_CLUSTER_CIDR, node, (GotoTable(L3_FORWARDING.name),), **elsewhere)


def other_flow(node: NodeNetwork) -> Flow:
    """The flow that takes everything else: to pods here from elsewhere, from pods here to the world."""
    return _flow(CONNTRACK, OTHERWISE, node, (GotoTable(ENDPOINT_REPLY.name),))


def endpoint_flow(protocol: Protocol, endpoint_ip: IPAddress, target_port: int, action: Conntrack = LOOK_UP) -> Flow:
    """The flow that looks up what an endpoint sends from the port it serves at."""
    transport = TRANSPORTS[protocol]
    addresses = family(endpoint_ip)
    return Flow(
        ENDPOINT_REPLY,
        NORMAL,
        match(
            eth_type=addresses.eth_type,
            ip_proto=transport.ip_proto,
            **{addresses.source: endpoint_ip, transport.source: target_port},
        ),
        (action,),
        endpoint_cookie(protocol, endpoint_ip, target_port),
    )


def fragment_flow(node: NodeNetwork, action: Conntrack = LOOK_UP) -> Flow:
    """The flow that looks up parts of fragmented packets: only together do they show what port they come from.

    Connection tracking puts them together for that, and translates them all. A fragmented packet cannot begin a
    connection to a Service, because ServiceLB sees no port.
    """
    return _flow(ENDPOINT_REPLY, NORMAL, node, (action,), ip_frag=IP_FRAGMENT)


def not_an_endpoint_flow(node: NodeNetwork) -> Flow:
    """The flow that passes on what no endpoint sent."""
    return _flow(ENDPOINT_REPLY, OTHERWISE, node, (GotoTable(L3_FORWARDING.name),))


def to_endpoint_flow(node: NodeNetwork, ct_state: str) -> Flow:
    """The flow that takes a known connection's packets to its endpoint, whose address they have by now."""
    return _flow(CONNTRACK_STATE, STATE_KNOWN, node, (GotoTable(SNAT.name),), ct_state=ct_state)


def to_client_flow(node: NodeNetwork) -> Flow:
    """The flow that takes answers, which have the Service's address as source again, back to the client."""
    actions = (set_field(REG_SOURCE, FROM_SERVICE), ForgetInPort(), GotoTable(L3_FORWARDING.name))
    return _flow(CONNTRACK_STATE, STATE_KNOWN, node, actions, ct_state="+rpl+trk")


def invalid_flow(node: NodeNetwork) -> Flow:
    """The flow that drops what belongs to no connection to a Service and cannot begin one."""
    return _flow(CONNTRACK_STATE, STATE_INVALID, node, (), ct_state="+inv+trk", **{REG_DESTINATION: TO_SERVICE})


def new_from_pod_flow(node: NodeNetwork) -> Flow:
    """The flow that lets a pod of this node begin a connection: its address can stay, for answers pass here."""
    return _new(node, STATE_NEW, FROM_POD, ())


def new_from_node_flows(config: NetworkConfig, node: NodeNetwork) -> Iterator[Flow]:
    """The flows for clients that are inside the cluster but not pods here: the node itself, and pods elsewhere."""
    masquerade = (set_field(REG_MASQUERADE, 1),)
    source = family(node.node_ip).source
    yield _new(node, STATE_NEW_ADDRESS, FROM_GATEWAY, masquerade, **{source: node.node_ip})
    yield _new(node, STATE_NEW_CIDR, FROM_GATEWAY, masquerade, **{source: config.cluster_cidr})


def new_from_outside_flow(node: NodeNetwork) -> Flow:
    """The flow for clients from outside, to which a Service's external traffic policy applies."""
    actions = (set_field(REG_MASQUERADE, 1), set_field(REG_CLIENT, OUTSIDE))
    return _new(node, STATE_NEW, FROM_GATEWAY, actions)


def not_to_service_flow(node: NodeNetwork) -> Flow:
    """The flow for what an endpoint sends outside of any connection to a Service: to whom it is addressed."""
    actions = (GotoTable(L3_FORWARDING.name),)
    return _flow(CONNTRACK_STATE, OTHERWISE, node, actions, **{REG_DESTINATION: NOT_TO_SERVICE})


def _new(node: NodeNetwork, priority: int, source: int, actions: tuple[Action, ...], **fields: FieldValue) -> Flow:
    conditions: dict[str, FieldValue] = {REG_SOURCE: source, REG_DESTINATION: TO_SERVICE, "ct_state": "+new+trk"}
    go_on = (*actions, GotoTable(SERVICE_LB.name))
    return _flow(CONNTRACK_STATE, priority, node, go_on, **conditions, **fields)


def _flow(table: Table, priority: int, node: NodeNetwork, actions: tuple[Action, ...], **fields: FieldValue) -> Flow:
    conditions = match(eth_type=family(node.node_ip).eth_type, **fields)
    return Flow(table, priority, conditions, actions, node_cookie(node.name))
