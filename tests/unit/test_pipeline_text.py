"""Flows as text and back: what ovs-ofctl printed, and everything the compiler makes."""

from __future__ import annotations

from pathlib import Path

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
    groups_text,
    learned_flows,
    normalise_dump,
    parse_dump,
    parse_group_dump,
    plan_text,
)
from testbed.cluster.values import ClusterState
from tests.unit.pipeline_states import service_clusters, two_nodes

# Printed by ovs-ofctl 3.1.0 with --names and statistics, and with --no-names --no-stats. One flow was learned.
DATA = Path(__file__).parent / "data"
RECORDED = (DATA / "dump_flows_names.txt").read_text()
RECORDED_NUMBERS = (DATA / "dump_flows_numbers.txt").read_text()


def test_a_recorded_dump_is_read_and_printed_as_ovs_ofctl_prints_it() -> None:
    flows = parse_dump(RECORDED, {"gw-peer": 2})
    (learned,) = learned_flows(RECORDED_NUMBERS)
    assert flows_text(flows) == RECORDED_NUMBERS.replace(f" {learned}\n", "")
    assert parse_dump(RECORDED_NUMBERS) == flows
    assert [line.partition(",")[0] for line in learned_flows(RECORDED)] == ["cookie=0x13"]


@given(service_clusters())
@settings(max_examples=30, deadline=None)
def test_every_table_survives_printing_and_reading(cluster: ClusterState) -> None:
    for node_name, program in compile_all(cluster).items():
        assert parse_dump(flows_text(program.flows())) == program.flows()
        assert parse_group_dump(groups_text(program.groups())) == program.groups()
        names = bridge_names(cluster, node_name)
        assert normalise_dump(plan_text(cluster, node_name), names) == plan_text(cluster, node_name)


@pytest.mark.parametrize(
    "line",
    [
        "group_id=1,type=all,bucket=actions=output:1",
        "group_id=1,type=select,bucket=weight:100,actions=output:1",
        "group_id=1,type=select,bucket=weight:100,watch_port:1,actions=ct(commit,table=13,zone=1)",
    ],
)
def test_a_group_that_is_not_the_pipelines_is_an_error_that_shows_it(line: str) -> None:
    with pytest.raises(DumpError) as raised:
        parse_group_dump(f" {line}\n")
    assert line in str(raised.value)


def test_names_of_ports_are_quoted_as_open_vswitch_quotes_them() -> None:
    flow = compile_flows(two_nodes("overlay"), "n1")[0]
    for name, printed in [("vxlan0", "vxlan0"), ("gw-peer", '"gw-peer"'), ("10", '"10"'), ("a_b", '"a_b"')]:
        assert f"in_port={printed}," in flow_text(flow, Names({1: name}))


@pytest.mark.parametrize(
    "line",
    [
        "table=0, priority=100,in_port=1",
        "table=16, priority=100,in_port=1 actions=drop",
        "table=0, priority=100,in_port=1 actions=ct(commit)",
        "table=0, priority=100,in_port=1 actions=NORMAL",
        "table=0, priority=100,ct_state=+est,in_port=1 actions=drop",
        "table=0, priority=100,tcp,in_port=1 actions=drop",
        "table=0, priority=100,in_port=eth7 actions=drop",
        "table=0, idle_timeout=10, priority=100,in_port=1 actions=drop",
        "table=15, priority=100,in_port=1 actions=drop",
        "table=0, priority=100,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00 actions=drop",
        "table=0, priority=100,in_port=1 actions=set_field:0x100000000->reg0,goto_table:1",
        "table=5, priority=100,ip,ct_state=+old actions=drop",
        "table=5, priority=100,ip actions=ct(table=7,zone=1,nat",
        "table=5, priority=100,ip actions=ct(table=7,zone=1,force)",
        "table=5, priority=100,ip actions=ct(table=7,nat)",
        "table=11, priority=100,ip,reg4=0x1 actions=learn(table=9,priority=100,cookie=0x1,eth_type=0x86dd)",
        "table=11, priority=100,ip,reg4=0x1 actions=learn(table=9,hard_timeout=5,priority=1,cookie=0x1,eth_type=0x800)",
        "table=8, priority=100,udp,tp_dst=53 actions=move:NXM_OF_UDP_SRC[]->NXM_OF_ETH_DST[0..7],group:1",
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
