"""Groups: how new connections are spread over a Service's endpoints, each with probability 1/n.

Open vSwitch 3.1 chooses in one of two ways (ofproto-dpif.c and ofproto-dpif-xlate.c there):

- By *slots*: a connection's hash falls into one of 16 to 256 slots, and each bucket has as many of them as Webster's
  method allots to its weight (``group_setup_dp_hash_table``). With equal weights it takes the next power of two from
  16 up, so that of 9 endpoints seven would have two slots and two have one. A *ballast* bucket, a second one for one
  of the endpoints with a weight so small that it gets a single slot, makes it take 256.
- By *scores*: the connection is hashed with each bucket and the highest wins (``pick_default_select_group``). It does
  so when there would have to be more than 256 slots, which a still lighter ballast bucket brings about.

Slots are found once and then used by the datapath; scores are even for any number of endpoints, but ask
``ovs-vswitchd`` about each connection. So scores are used

- where 256 slots cannot come within a tenth of 1/n (37 endpoints, or 100);
- for UDP: the hash of the slots leaves its ports out, so that all datagrams of a client would go to one endpoint. The
  scores' hash leaves them out as well, but it has the MACs in it: see ``CHOOSE_BY``;
- with session affinity: by slots, the datapath would deal a client's second connection by what it cached of the first,
  in which no endpoint was remembered yet, until its revalidators come round some milliseconds later.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import cache

from controllers.pipeline.fields import family
from controllers.pipeline.flow import Action, Bucket, Conntrack, Group, Move, Nat, Resubmit, set_field
from controllers.pipeline.tables import (
    AFFINITY_LEARN,
    DNAT_ZONE,
    REG_ENDPOINT_IP,
    REG_ENDPOINT_PORT,
    REG_MASQUERADE,
    SNAT,
)
from testbed.cluster.identity import group_id
from testbed.cluster.values import Protocol, ServiceEndpoint, ServicePort

# OVS 3.1, ofproto-dpif.c: MAX_SELECT_GROUP_HASH_VALUES.
MOST_SLOTS = 256
FEWEST_SLOTS = 16
# As far as an endpoint's share may be from 1/n, as a part of 1/n.
MOST_DEVIATION = Fraction(1, 10)

_ENDPOINT_WEIGHT = 1000
# With a bucket of this weight more than MOST_SLOTS would be needed. It never has the highest score, or, once in a
# million connections to two endpoints, for one of them.
_FOR_SCORES = 1

# An OpenFlow message's length is a 16-bit number. These are the lengths of its parts in bytes (OpenFlow 1.3.5 sections
# 7.2.5, 7.3.4.2; nicira-ext.h): what surrounds a group in a bundle, and a bucket with and without session affinity.
_MOST_BYTES = 0xFFFF
_AROUND_BYTES = 24 + 16
_BUCKET_BYTES = 16 + 24 + 24 + 24  # bucket, ct, nat, move
_AFFINITY_BUCKET_BYTES = 16 + 16 + 16 + 16  # bucket, two set_fields, resubmit

MOST_ENDPOINTS = (_MOST_BYTES - _AROUND_BYTES) // _BUCKET_BYTES - 1
MOST_ENDPOINTS_WITH_AFFINITY = (_MOST_BYTES - _AROUND_BYTES) // _AFFINITY_BUCKET_BYTES - 1


def most_endpoints(affinity: bool) -> int:
    """How many usable endpoints one port of a Service can have: as many as one OpenFlow message holds."""
    return MOST_ENDPOINTS_WITH_AFFINITY if affinity else MOST_ENDPOINTS


def endpoints_problem(port: ServicePort) -> str | None:
    """What to say of a port that has more usable endpoints than a group holds: the Service, the field, the numbers."""
    most, count = most_endpoints(port.affinity_timeout_s is not None), len(port.cluster_endpoints)
    if count <= most:
        return None
    affinity = "" if port.affinity_timeout_s is None else " with sessionAffinity: ClientIP"
    where = f"Service {port.service_key}: spec.ports[{port.port_name or port.service_port}]"
    return f"{where} has {count} usable endpoints; an OpenFlow group{affinity} holds at most {most}"


def service_group(port: ServicePort, endpoints: Sequence[ServiceEndpoint], local: bool) -> Group:
    """The group of a Service's port over ``endpoints``; without any it drops. At most :func:`most_endpoints`."""
    ordered = _rotated(endpoints, port.group_number)
    buckets = [Bucket(_ENDPOINT_WEIGHT, _choose(port, endpoint)) for endpoint in ordered]
    if weight := ballast_weight(len(buckets), by_scores=port.protocol == "UDP" or port.affinity_timeout_s is not None):
        # The last endpoint is one of those that Webster's method, which prefers the first, gave the fewest slots.
        buckets.append(Bucket(weight, buckets[-1].actions))
    return Group(group_id(port.group_number, local), tuple(buckets), f"Service {port.service_key}")


def to_endpoint(endpoint: ServiceEndpoint) -> Conntrack:
    """Begin the connection, to this endpoint."""
    return Conntrack(
        DNAT_ZONE,
        SNAT.name,
        commit=True,
        nat=Nat("dst", endpoint.endpoint_ip, endpoint.target_port),
        writes=_REMEMBER_MASQUERADE,
    )


_REMEMBER_MASQUERADE = (Move(REG_MASQUERADE, "ct_mark"),)


# What goes before a group. The destination MAC is free to carry the client's UDP port into the hash: it is given anew
# in L3Forwarding or Reject.
CHOOSE_BY: dict[Protocol, tuple[Action, ...]] = {
    "TCP": (),
    "UDP": (Move("udp_src", "eth_dst"),),
    "SCTP": (),
}


@cache
def ballast_weight(endpoints: int, *, by_scores: bool = False) -> int:
    """The weight of the ballast bucket beside so many endpoints; 0: none is needed."""
    if endpoints < 2 or endpoints > MOST_SLOTS:
        return 0  # no choice; or a choice by scores anyway
    if by_scores:
        return _FOR_SCORES
    if endpoints & (endpoints - 1) == 0:
        return 0  # a power of two divides every number of slots
    weight = -(-endpoints * _ENDPOINT_WEIGHT // (MOST_SLOTS - 1))
    shares = _endpoint_shares(webster_slots([_ENDPOINT_WEIGHT] * endpoints + [weight]), endpoints)
    even = all(abs(share * endpoints - 1) <= MOST_DEVIATION for share in shares)
    return weight if even else _FOR_SCORES


def bucket_shares(endpoints: int, protocol: Protocol = "TCP") -> tuple[Fraction, ...]:
    """The probability with which a group without session affinity gives a connection to each of so many endpoints
    (Open vSwitch 3.1)."""
    weight = ballast_weight(endpoints, by_scores=protocol == "UDP")
    slots = webster_slots([_ENDPOINT_WEIGHT] * endpoints + ([weight] if weight else []))
    return _endpoint_shares(slots, endpoints) if slots else (Fraction(1, endpoints),) * endpoints


def webster_slots(weights: Sequence[int]) -> tuple[int, ...]:
    """How many slots each bucket gets; () if it would take more than there can be."""
    needed = -(-sum(weights) // min(weights))
    slots = max(FEWEST_SLOTS, 1 << (needed - 1).bit_length())
    if slots > MOST_SLOTS:
        return ()
    hits = [0] * len(weights)
    values = [float(weight) for weight in weights]
    for _ in range(slots):
        winner = values.index(max(values))
        hits[winner] += 1
        values[winner] = weights[winner] / (2 * hits[winner] + 1)
    return tuple(hits)


def _endpoint_shares(slots: Sequence[int], endpoints: int) -> tuple[Fraction, ...]:
    shares = [Fraction(hits, sum(slots)) for hits in slots]
    shares[endpoints - 1] += sum(shares[endpoints:])
    return tuple(shares[:endpoints])


def _choose(port: ServicePort, endpoint: ServiceEndpoint) -> tuple[Action, ...]:
    if port.affinity_timeout_s is None:
        return (to_endpoint(endpoint),)
    return (*endpoint_registers(endpoint), Resubmit(AFFINITY_LEARN.name))


def endpoint_registers(endpoint: ServiceEndpoint) -> tuple[Action, ...]:
    """Say which endpoint was chosen."""
    family(endpoint.endpoint_ip)
    return (
        set_field(REG_ENDPOINT_IP, int(endpoint.endpoint_ip)),
        set_field(REG_ENDPOINT_PORT, endpoint.target_port),
    )


def _rotated(endpoints: Sequence[ServiceEndpoint], by: int) -> Sequence[ServiceEndpoint]:
    # Otherwise the same endpoint of every Service would have the ballast.
    start = by % len(endpoints) if endpoints else 0
    return (*endpoints[start:], *endpoints[:start])
