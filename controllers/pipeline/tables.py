"""The pipeline as data: its tables in order, what each may match and do, the registers, the priorities, the cookies.

Nothing else in the project knows a table's number, a register's number or a priority. To add a table, put it where
packets should pass it; the numbers follow from the order. The names are Antrea's where it has one for the same job.
"""

from __future__ import annotations

from dataclasses import dataclass

from testbed.cluster.identity import cookie


@dataclass(frozen=True)
class Table:
    """One flow table. ``match_fields``, ``set_fields``, ``actions`` and ``next_tables`` are all that its flows may use.

    ``actions`` names action classes of :mod:`controllers.pipeline.flow` besides SetField and GotoTable, which are
    allowed exactly as ``set_fields`` and ``next_tables`` say. A packet that no flow matches is dropped, in every table.
    """

    number: int
    name: str
    match_fields: frozenset[str]
    set_fields: frozenset[str]
    actions: frozenset[str]
    next_tables: tuple[str, ...]


# Registers. A packet enters the bridge with all of them zero.
REG_SOURCE = "reg0"  # where the packet came from: one of the FROM_ values
REG_TARGET = "reg1"  # the of_port it will leave by
REG_DESTINATION = "reg2"  # whether it is for a Service: one of the TO_ values, or 0
REG_MASQUERADE = "reg3"  # 1: the endpoint must not see the client's address
REG_GROUP = "reg4"  # the group of a Service's port with session affinity
REG_ENDPOINT_IP = "reg5"  # the endpoint that was chosen, or remembered, for this client
REG_ENDPOINT_PORT = "reg6"
REG_CLIENT = "reg7"  # OUTSIDE: the client is neither a pod nor this node

FROM_TUNNEL, FROM_GATEWAY, FROM_POD, FROM_SERVICE = 1, 2, 4, 5
# The bit that FROM_POD and FROM_SERVICE have: the node's kernel may be given the packet.
TO_KERNEL = (4, 4)

TO_NODE, TO_SERVICE_ADDRESS, TO_NODE_PORT = 1, 2, 3
# The bit that TO_SERVICE_ADDRESS and TO_NODE_PORT have.
TO_SERVICE, NOT_TO_SERVICE = (2, 2), (0, 2)

OUTSIDE = 1

# Zones of connection tracking: each is a table of connections of its own.
DNAT_ZONE = 1  # connections to Services; original: client to Service, reply: endpoint to client
SNAT_ZONE = 2  # those of them whose client's address is replaced
KERNEL_ZONE = 3  # connections that the node's kernel turned to an endpoint, where its proxy does that

# In ct_mark of a connection in DNAT_ZONE: what REG_MASQUERADE was for its first packet.
MASQUERADE_MARK = 1

_PORTS_SRC = "tcp_src udp_src sctp_src"
_PORTS_DST = "tcp_dst udp_dst sctp_dst"

# name, match fields, set fields, other actions, tables it may go on to; in the order in which packets pass them.
_DECLARED: tuple[tuple[str, str, str, str, str], ...] = (
    ("Classifier", "in_port eth_dst", f"{REG_SOURCE} eth_src", "", "SpoofGuard UnSNAT"),
    ("SpoofGuard", "in_port eth_type eth_src ipv4_src arp_spa arp_sha", "", "", "ARPResponder UnSNAT"),
    ("ARPResponder", "eth_type arp_op arp_tpa", "eth_src arp_op arp_sha arp_spa", "Move Output", ""),
    ("UnSNAT", "eth_type ipv4_dst", REG_SOURCE, "Conntrack ForgetInPort", "NodePortMark Conntrack"),
    ("NodePortMark", "eth_type ipv4_dst", REG_DESTINATION, "", "Conntrack"),
    (
        "Conntrack",
        f"ct_state {REG_SOURCE} {REG_DESTINATION} eth_type ip_proto ipv4_src ipv4_dst icmp_type {_PORTS_DST}",
        REG_DESTINATION,
        "Conntrack",
        "EndpointReply ConntrackState L3Forwarding",
    ),
    (
        "EndpointReply",
        f"eth_type ip_proto ipv4_src ip_frag {_PORTS_SRC}",
        "",
        "Conntrack",
        "ConntrackState L3Forwarding",
    ),
    (
        "ConntrackState",
        f"ct_state {REG_SOURCE} {REG_DESTINATION} eth_type ipv4_src",
        f"{REG_SOURCE} {REG_TARGET} {REG_MASQUERADE} {REG_CLIENT} eth_dst",
        "ForgetInPort",
        "ServiceLB SNAT L3Forwarding Output",
    ),
    (
        "ServiceLB",
        f"{REG_DESTINATION} {REG_CLIENT} eth_type ip_proto ipv4_dst {_PORTS_DST}",
        f"{REG_MASQUERADE} {REG_GROUP}",
        "Move ToGroup Resubmit",
        "SessionAffinity AffinityCheck Reject",
    ),
    ("SessionAffinity", f"eth_type ipv4_src {REG_GROUP}", f"{REG_ENDPOINT_IP} {REG_ENDPOINT_PORT}", "", ""),
    (
        "AffinityCheck",
        f"eth_type {REG_GROUP} {REG_ENDPOINT_IP} {REG_ENDPOINT_PORT}",
        "",
        "Conntrack ToGroup",
        "SNAT",
    ),
    (
        "AffinityLearn",
        f"eth_type {REG_GROUP} {REG_ENDPOINT_IP} {REG_ENDPOINT_PORT}",
        "",
        "Learn Conntrack",
        "SNAT",
    ),
    (
        "Reject",
        f"{REG_MASQUERADE} {REG_CLIENT} eth_type",
        f"{REG_TARGET} eth_src eth_dst",
        "Conntrack ForgetInPort",
        "Output",
    ),
    ("SNAT", "ct_mark eth_type ipv4_src ipv4_dst", REG_SOURCE, "Conntrack ForgetInPort", "L3Forwarding"),
    (
        "L3Forwarding",
        f"{REG_SOURCE} eth_type ipv4_dst",
        f"{REG_TARGET} eth_src eth_dst",
        "DecTTL ForgetInPort",
        "Output",
    ),
    ("Output", "", "", "OutputField", ""),
)


def _tables() -> dict[str, Table]:
    return {
        name: Table(
            number,
            name,
            frozenset(match_fields.split()),
            frozenset(set_fields.split()),
            frozenset(actions.split()),
            tuple(next_tables.split()),
        )
        for number, (name, match_fields, set_fields, actions, next_tables) in enumerate(_DECLARED)
    }


TABLES = _tables()
TABLE_BY_NUMBER = {table.number: table for table in TABLES.values()}

# What the buckets of groups may do, as if they were a table: they set registers and go on in other tables.
BUCKET = Table(
    TABLES["AffinityCheck"].number,
    "bucket",
    frozenset(),
    frozenset({REG_ENDPOINT_IP, REG_ENDPOINT_PORT}),
    frozenset({"Conntrack", "Resubmit"}),
    ("AffinityLearn", "SNAT"),
)

CLASSIFIER = TABLES["Classifier"]
SPOOF_GUARD = TABLES["SpoofGuard"]
ARP_RESPONDER = TABLES["ARPResponder"]
UN_SNAT = TABLES["UnSNAT"]
NODE_PORT_MARK = TABLES["NodePortMark"]
CONNTRACK = TABLES["Conntrack"]
ENDPOINT_REPLY = TABLES["EndpointReply"]
CONNTRACK_STATE = TABLES["ConntrackState"]
SERVICE_LB = TABLES["ServiceLB"]
SESSION_AFFINITY = TABLES["SessionAffinity"]
AFFINITY_CHECK = TABLES["AffinityCheck"]
AFFINITY_LEARN = TABLES["AffinityLearn"]
REJECT = TABLES["Reject"]
SNAT = TABLES["SNAT"]
L3_FORWARDING = TABLES["L3Forwarding"]
OUTPUT = TABLES["Output"]

# Priorities. Within a table either all flows exclude each other (NORMAL), or the more specific one must win.
NORMAL = 100
OTHERWISE = 10  # what none of the table's other flows takes

# In L3Forwarding an address, then the end of the tunnel, then a node's CIDR, then the cluster's, then everything else.
FORWARD_ADDRESS = 400
FORWARD_FROM_TUNNEL = 300
FORWARD_NODE_CIDR = 200
FORWARD_CLUSTER_CIDR = 100
FORWARD_DEFAULT = 10

# In Conntrack what has been tracked already, then what is for a Service, then what reports an error, then by direction:
# within the node, within the cluster.
TRACK_TRACKED = 500
TRACK_SERVICE = 400
TRACK_ERROR = 300
TRACK_OWN_CIDR = 200
TRACK_CLUSTER_CIDR = 100

# In ConntrackState a known connection, then a packet that fits none, then a new one: of this node's, of any pod's, of
# anybody's.
STATE_KNOWN = 400
STATE_INVALID = 300
STATE_NEW_ADDRESS = 200
STATE_NEW_CIDR = 150
STATE_NEW = 100

# In SNAT a pod that reaches itself; its connection may be marked as well.
HAIRPIN = 200

# In AffinityCheck an endpoint that is remembered and still there, then no such endpoint.
AFFINITY_ENDPOINT = 200
AFFINITY_NONE = 100

# In ServiceLB a client from outside under a Local policy, then a Service's port, then its address with any other port.
SERVICE_OUTSIDE = 300
SERVICE_PORT = 200
SERVICE_ADDRESS = 100


# Cookies say what a flow is about; flows of one subject share one, so that they can be found together in a dump.
def pod_cookie(key: str) -> int:
    """Cookie of the flows of the pod ``namespace/name``."""
    return cookie("pod", key)


def node_cookie(name: str) -> int:
    """Cookie of the flows that lead to a node's pods, and of its own gateway's."""
    return cookie("node", name)


def cluster_cookie() -> int:
    """Cookie of the flows that are the same for the whole cluster."""
    return cookie("cluster")


def service_cookie(key: str) -> int:
    """Cookie of the flows of one port of a Service, ``namespace/name:port_name/protocol``."""
    return cookie("service", key)


def endpoint_cookie(protocol: str, address: object, target_port: int) -> int:
    """Cookie of the flow that recognises what an endpoint sends, whichever Services it belongs to."""
    return cookie("endpoint", protocol, str(address), str(target_port))


def address_cookie(address: object) -> int:
    """Cookie of the flow for the other ports of a Service's address."""
    return cookie("address", str(address))
