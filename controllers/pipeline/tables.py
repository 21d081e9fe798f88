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

FROM_TUNNEL, FROM_GATEWAY, FROM_POD = 1, 2, 3

# name, match fields, set fields, other actions, tables it may go on to; in the order in which packets pass them.
_DECLARED: tuple[tuple[str, str, str, str, str], ...] = (
    ("Classifier", "in_port eth_dst", f"{REG_SOURCE} eth_src", "", "SpoofGuard L3Forwarding"),
    (
        "SpoofGuard",
        "in_port eth_type eth_src ipv4_src arp_spa arp_sha",
        "",
        "",
        "ARPResponder L3Forwarding",
    ),
    ("ARPResponder", "eth_type arp_op arp_tpa", "eth_src arp_op arp_sha arp_spa", "Move Output", ""),
    (
        "L3Forwarding",
        f"{REG_SOURCE} eth_type ipv4_dst",
        f"{REG_TARGET} eth_src eth_dst",
        "DecTTL",
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

CLASSIFIER = TABLES["Classifier"]
SPOOF_GUARD = TABLES["SpoofGuard"]
ARP_RESPONDER = TABLES["ARPResponder"]
L3_FORWARDING = TABLES["L3Forwarding"]
OUTPUT = TABLES["Output"]

# Priorities. Within a table either all flows exclude each other (NORMAL), or the more specific one must win:
# in L3Forwarding an address, then the end of the tunnel, then a node's CIDR, then the cluster's, then everything else.
NORMAL = 100
FORWARD_ADDRESS = 400
FORWARD_FROM_TUNNEL = 300
FORWARD_NODE_CIDR = 200
FORWARD_CLUSTER_CIDR = 100
FORWARD_DEFAULT = 10


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
