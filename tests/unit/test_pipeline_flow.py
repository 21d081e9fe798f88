"""A flow that does not fit its table cannot be built."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest

from controllers.pipeline.fields import ETH_TYPE_ARP, ETH_TYPE_IPV4, family
from controllers.pipeline.flow import (
    Action,
    Bucket,
    Conntrack,
    DecTTL,
    FieldMatch,
    Flow,
    GotoTable,
    Match,
    Move,
    Output,
    OutputField,
    PipelineError,
    Resubmit,
    ToGroup,
    match,
    set_field,
)
from controllers.pipeline.tables import (
    ARP_RESPONDER,
    CLASSIFIER,
    CONNTRACK,
    L3_FORWARDING,
    OUTPUT,
    SERVICE_LB,
    SNAT,
    SPOOF_GUARD,
    TABLES,
    Table,
)

IP = match(eth_type=ETH_TYPE_IPV4)
ARP = match(eth_type=ETH_TYPE_ARP)


def test_tables_are_numbered_in_the_order_packets_pass_them() -> None:
    assert [table.number for table in TABLES.values()] == list(range(len(TABLES)))
    for table in TABLES.values():
        assert all(TABLES[name].number > table.number for name in table.next_tables)


@pytest.mark.parametrize(
    ("table", "conditions", "actions", "said"),
    [
        (CLASSIFIER, match(ipv4_dst=IPv4Address("10.0.0.1")), (), "does not match ipv4_dst"),
        (OUTPUT, match(in_port=1), (), "does not match in_port"),
        (CLASSIFIER, match(in_port=1) * 2, (), "in_port twice"),
        (L3_FORWARDING, match(ipv4_dst=IPv4Address("10.0.0.1")), (), "needs a match on eth_type 0x0800"),
        (SPOOF_GUARD, (*IP, *match(arp_spa=IPv4Address("10.0.0.1"))), (), "needs a match on eth_type 0x0806"),
        (CLASSIFIER, (), (set_field("eth_dst", 1),), "does not set eth_dst"),
        (ARP_RESPONDER, IP, (set_field("arp_op", 2),), "needs a match on eth_type 0x0806"),
        (ARP_RESPONDER, IP, (Move("arp_sha", "arp_tha"),), "needs a match on eth_type 0x0806"),
        (ARP_RESPONDER, ARP, (Move("arp_sha", "arp_tpa"),), "arp_sha is wider than arp_tpa"),
        (CLASSIFIER, (), (DecTTL(),), "does not allow DecTTL"),
        (L3_FORWARDING, IP, (Output(1),), "does not allow Output"),
        (CLASSIFIER, (), (OutputField("reg1"),), "does not allow OutputField"),
        (CLASSIFIER, (), (GotoTable("Output"),), "does not go on to Output"),
        (L3_FORWARDING, IP, (GotoTable("Classifier"),), "does not go on to Classifier"),
        (L3_FORWARDING, IP, (GotoTable("Output"), DecTTL()), "nothing can follow goto_table"),
        (SERVICE_LB, match(eth_type=ETH_TYPE_IPV4, tcp_dst=80), (), "needs a match on ip_proto 6"),
        (SERVICE_LB, match(eth_type=ETH_TYPE_IPV4, ip_proto=17, tcp_dst=80), (), "needs a match on ip_proto 6"),
        (SERVICE_LB, IP, (Move("udp_src", "eth_dst"),), "needs a match on ip_proto 17"),
        (CONNTRACK, IP, (Conntrack(1, "ServiceLB"),), "does not go on to ServiceLB"),
        (CONNTRACK, IP, (Conntrack(1, "ConntrackState"), DecTTL()), r"nothing can follow ct\(table\)"),
        (SNAT, IP, (ToGroup(1),), "does not allow ToGroup"),
        (SERVICE_LB, IP, (Resubmit("Conntrack"),), "does not go on to Conntrack"),
    ],
)
def test_a_flow_that_does_not_fit_is_refused(
    table: Table, conditions: Match, actions: tuple[Action, ...], said: str
) -> None:
    with pytest.raises(PipelineError, match=said):
        Flow(table, 100, conditions, actions, 1)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("eth_type", 0x10000, "16 bits"),
        ("in_port", -1, "32 bits"),
        ("in_port", "eth0", "takes no text"),
        ("ipv4_dst", IPv6Address("::1"), "no IPv6"),
        ("vlan_vid", 80, "no field"),
        ("reg2", (3, 2), "outside of the mask"),
        ("ct_state", "+new est", "no state of connections"),
        ("ct_state", "new", "no state of connections"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_refused(name: str, value: int | str | IPv6Address, said: str) -> None:
    with pytest.raises(PipelineError, match=said):
        match(**{name: value})


def test_a_bucket_that_does_not_fit_is_refused() -> None:
    with pytest.raises(PipelineError, match="does not set eth_dst"):
        Bucket(1, (set_field("eth_dst", 1),))
    with pytest.raises(PipelineError, match="does not go on to ServiceLB"):
        Bucket(1, (Resubmit("ServiceLB"),))


def test_a_bucket_sends_a_packet_on_once() -> None:
    """Open vSwitch carries out a bucket as an action set: with a resubmit in it, a ct would be passed over."""
    conntrack = Conntrack(1, "SNAT", commit=True)
    with pytest.raises(PipelineError, match="sends a packet on once"):
        Bucket(1, (Resubmit("AffinityLearn"), conntrack))
    with pytest.raises(PipelineError, match="sends a packet on once"):
        Bucket(1, ())
    assert Bucket(1, (conntrack,)).actions == (conntrack,)


def test_a_network_matches_by_its_prefix() -> None:
    (entry,) = match(ipv4_dst=IPv4Network("10.244.1.0/24"))
    assert entry == FieldMatch("ipv4_dst", 0x0AF40100, 0xFFFFFF00)


def test_a_match_does_not_depend_on_the_order_of_its_fields() -> None:
    one = match(eth_src="0a:00:00:00:00:01", in_port=3, eth_type=ETH_TYPE_IPV4)
    assert one == match(eth_type=ETH_TYPE_IPV4, in_port=3, eth_src="0a:00:00:00:00:01")


def test_the_address_family_is_chosen_in_one_place_and_ipv6_is_refused_there() -> None:
    assert family(IPv4Network("10.0.0.0/8")).destination == "ipv4_dst"
    with pytest.raises(NotImplementedError, match="IPv6"):
        family(IPv6Address("::1"))
