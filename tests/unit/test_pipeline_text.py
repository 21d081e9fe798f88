"""Flows as text and back: what ovs-ofctl printed, and everything the compiler makes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.pipeline import (
    DumpError,
    Names,
    bridge_names,
    compile_all,
    compile_flows,
    flow_text,
    flows_text,
    normalise_dump,
    parse_dump,
    plan_text,
)
from testbed.cluster.values import ClusterState
from tests.unit.pipeline_states import clusters, two_nodes

# Printed by ovs-ofctl 3.1.0 with --names and statistics, in the switch's own order.
RECORDED = """\
OFPST_FLOW reply (OF1.3) (xid=0x2):
 cookie=0x12, duration=0.025s, table=Output, n_packets=0, n_bytes=0, priority=0 actions=output:NXM_NX_REG1[]
 cookie=0x12, duration=0.098s, table=Classifier, n_packets=3, n_bytes=9, priority=100,in_port="gw-peer",\
dl_dst=0e:01:00:00:00:01 actions=set_field:0x1->reg0,set_field:0a:58:00:00:00:01->eth_src,goto_table:L3Forwarding
 cookie=0x0, duration=0.084s, table=SpoofGuard, n_packets=0, n_bytes=0, priority=100,arp,in_port="gw-peer",\
dl_src=0e:01:00:00:00:01,arp_spa=10.1.1.1,arp_sha=0e:01:00:00:00:01 actions=goto_table:ARPResponder
 cookie=0x12, duration=0.071s, table=ARPResponder, n_packets=0, n_bytes=0, arp,arp_tpa=10.1.1.1,arp_op=1 \
actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:0a:58:00:00:00:01->eth_src,set_field:2->arp_op,\
move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:0a:58:00:00:00:01->arp_sha,\
move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],set_field:10.1.1.1->arp_spa,IN_PORT
 cookie=0x12, duration=0.057s, table=L3Forwarding, n_packets=0, n_bytes=0, priority=100,ip,reg0=0x1,\
nw_dst=10.244.1.0/24 actions=drop
"""
RECORDED_NUMBERS = """\
 cookie=0x12, priority=100,in_port=2,dl_dst=0e:01:00:00:00:01 \
actions=set_field:0x1->reg0,set_field:0a:58:00:00:00:01->eth_src,goto_table:3
 table=1, priority=100,arp,in_port=2,dl_src=0e:01:00:00:00:01,arp_spa=10.1.1.1,arp_sha=0e:01:00:00:00:01 \
actions=goto_table:2
 cookie=0x12, table=2, arp,arp_tpa=10.1.1.1,arp_op=1 \
actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:0a:58:00:00:00:01->eth_src,set_field:2->arp_op,\
move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:0a:58:00:00:00:01->arp_sha,\
move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],set_field:10.1.1.1->arp_spa,IN_PORT
 cookie=0x12, table=3, priority=100,ip,reg0=0x1,nw_dst=10.244.1.0/24 actions=drop
 cookie=0x12, table=4, priority=0 actions=output:NXM_NX_REG1[]
"""


def test_a_recorded_dump_is_read_and_printed_as_ovs_ofctl_prints_it() -> None:
    flows = parse_dump(RECORDED, {"gw-peer": 2})
    assert flows_text(flows) == RECORDED_NUMBERS
    assert parse_dump(RECORDED_NUMBERS) == flows


@given(clusters())
@settings(max_examples=30, deadline=None)
def test_every_table_survives_printing_and_reading(cluster: ClusterState) -> None:
    for node_name, flows in compile_all(cluster).items():
        assert parse_dump(flows_text(flows)) == flows
        names = bridge_names(cluster, node_name)
        assert normalise_dump(plan_text(cluster, node_name), names) == plan_text(cluster, node_name)


def test_names_of_ports_are_quoted_as_open_vswitch_quotes_them() -> None:
    flow = compile_flows(two_nodes("overlay"), "n1")[0]
    for name, printed in [("vxlan0", "vxlan0"), ("gw-peer", '"gw-peer"'), ("10", '"10"'), ("a_b", '"a_b"')]:
        assert f"in_port={printed}," in flow_text(flow, Names({1: name}))


@pytest.mark.parametrize(
    "line",
    [
        "table=0, priority=100,in_port=1",
        "table=9, priority=100,in_port=1 actions=drop",
        "table=0, priority=100,in_port=1 actions=ct(commit)",
        "table=0, priority=100,in_port=1 actions=NORMAL",
        "table=0, priority=100,ct_state=+est,in_port=1 actions=drop",
        "table=0, priority=100,tcp,in_port=1 actions=drop",
        "table=0, priority=100,in_port=eth7 actions=drop",
        "table=0, idle_timeout=10, priority=100,in_port=1 actions=drop",
        "table=4, priority=100,in_port=1 actions=drop",
        "table=0, priority=100,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=drop",
        "table=0, priority=100,in_port=1 actions=set_field:0x100000000->reg0,goto_table:1",
        "what is this",
    ],
)
def test_a_flow_that_is_not_the_pipelines_is_an_error_that_shows_it(line: str) -> None:
    with pytest.raises(DumpError) as raised:
        parse_dump(f" {line}\n")
    assert line in str(raised.value)


@given(st.lists(st.sampled_from(RECORDED_NUMBERS.split(",")) | st.text(max_size=8), max_size=12))
@settings(max_examples=200, deadline=None)
def test_whatever_the_text_only_a_dump_error_comes(words: list[str]) -> None:
    try:
        parse_dump(",".join(words))
    except DumpError as error:
        assert "cannot read this flow" in str(error)
