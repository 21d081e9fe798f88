"""From cluster state to flows: golden tables, nothing ambiguous, incremental equals full, and fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.pipeline import (
    Compiler,
    apply_diff,
    compile_all,
    compile_flows,
    diff_flows,
    flows_text,
    plan_text,
)
from controllers.pipeline.flow import sort_key
from testbed.cluster.values import MODES, ClusterState, Mode
from tests.unit.pipeline_states import clusters, large, two_nodes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("node_name", ["n1", "n2"])
def test_flow_tables_are_as_reviewed(golden: Callable[[str, str], None], mode: Mode, node_name: str) -> None:
    golden(f"flows/{mode}_{node_name}.txt", plan_text(two_nodes(mode), node_name))


@pytest.mark.parametrize("mode", MODES)
def test_flow_tables_without_names_are_as_reviewed(golden: Callable[[str, str], None], mode: Mode) -> None:
    golden(f"flows/{mode}_n1_numbers.txt", flows_text(compile_flows(two_nodes(mode), "n1")))


def test_modes_differ_only_in_what_leads_to_other_nodes() -> None:
    overlay, routed = (set(compile_flows(two_nodes(mode), "n1")) for mode in MODES)
    differing = {flow.table.name for flow in overlay ^ routed}
    assert differing == {"L3Forwarding"}
    assert len(overlay - routed) == 2  # one per other node, and one that drops what belongs to no node
    assert len(routed - overlay) == 1


@given(clusters())
@settings(max_examples=50, deadline=None)
def test_tables_are_sorted_and_no_two_flows_share_a_key(cluster: ClusterState) -> None:
    for flows in compile_all(cluster).values():
        assert list(flows) == sorted(flows, key=sort_key)
        assert len({flow.key for flow in flows}) == len(flows)


@given(clusters(), clusters())
@settings(max_examples=50, deadline=None)
def test_difference_applied_is_the_new_table(before: ClusterState, after: ClusterState) -> None:
    old, new = compile_all(before), compile_all(after)
    for name in old.keys() & new.keys():
        result = apply_diff(old[name], diff_flows(old[name], new[name]))
        assert sorted(result, key=sort_key) == list(new[name])
        assert not diff_flows(new[name], new[name])


@given(clusters(mode="overlay"), st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=8))
@settings(max_examples=50, deadline=None)
def test_incremental_equals_full(cluster: ClusterState, changes: list[tuple[int, int]]) -> None:
    """A compiler that saw many states gives the same tables as one that sees only the last."""
    compiler = Compiler()
    compiler.compile(cluster)
    current = cluster
    for kind, number in changes:
        if kind == 0 and current.pods:
            gone = current.pods[number % len(current.pods)]
            current = replace(current, pods=tuple(pod for pod in current.pods if pod is not gone))
        elif kind == 1:
            current = replace(current, config=replace(current.config, mode=MODES[number % len(MODES)]))
        elif kind == 2 and len(current.nodes) > 1:
            gone_node = current.nodes[number % len(current.nodes)]
            current = replace(
                current,
                nodes=tuple(node for node in current.nodes if node is not gone_node),
                pods=tuple(pod for pod in current.pods if pod.node_name != gone_node.name),
            )
        elif kind == 3:
            current = cluster
        assert compiler.compile(current) == compile_all(current)


def test_an_unchanged_node_keeps_its_very_table() -> None:
    cluster = two_nodes("overlay")
    compiler = Compiler()
    before = compiler.compile(cluster)
    fewer = replace(cluster, pods=tuple(pod for pod in cluster.pods if pod.name != "web-0"))
    after = compiler.compile(fewer)
    assert after["n2"] is before["n2"]
    assert len(after["n1"]) == len(before["n1"]) - 5


def test_compiling_a_large_cluster_takes_a_fraction_of_its_push() -> None:
    cluster = large("overlay", 20, 1000)
    times = []
    for _ in range(3):
        started = time.process_time()
        flows = compile_all(cluster)
        times.append(time.process_time() - started)
    # A node: 10 flows of its own, 19 to the other nodes, 1 for the cluster CIDR; a pod: one in each of 5 places.
    assert sum(map(len, flows.values())) == 20 * (10 + 19 + 1) + 1000 * 5
    assert min(times) < 0.3
