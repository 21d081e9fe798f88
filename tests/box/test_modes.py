"""Switching modes on living wires: nothing is lost, and the tables are the plan's, by name."""

from __future__ import annotations

import re
import signal
import subprocess

import pytest

from controllers.pipeline import bridge_names, compile_flows
from controllers.pipeline.text import flows_text
from testbed.cluster.identity import BRIDGE
from testbed.spec.endpoints import parse_endpoint
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import USERS, run_in_box

pytestmark = pytest.mark.box


def a_switch_loses_nothing() -> None:
    with cluster(plan_of("leaf_spine", [pod("a", "n1"), pod("b", "n3")])) as testbed:
        target = str(testbed.address(parse_endpoint("b")))
        pinging = testbed.popen(
            parse_endpoint("a"), ["ping", "-q", "-i", "0.002", target], stdout=subprocess.PIPE, text=True
        )
        for _ in range(10):
            testbed.set_mode("routed")
            testbed.set_mode("overlay")
        pinging.send_signal(signal.SIGINT)
        output, _ = pinging.communicate(timeout=20)
        sent, received = map(int, re.search(r"(\d+) packets transmitted, (\d+) received", output).groups())
        assert sent - received <= 1, output  # the last one may have been under way when ping was ended
        assert received > 25, output
        assert "duplicates" not in output, output


def test_pods_reach_each_other_while_the_mode_is_switched() -> None:
    run_in_box(a_switch_loses_nothing, USERS[0])


def tables_are_the_plans() -> None:
    with cluster(plan_of("leaf_spine", [pod(f"p{number}") for number in range(6)])) as testbed:
        for mode in ("routed", "overlay"):
            testbed.set_mode(mode)
            state = testbed.state
            for node, switch in testbed.switches.items():
                dump = switch.ofctl("--names", "--no-stats", "dump-flows", BRIDGE)
                planned = flows_text(compile_flows(state, node), bridge_names(state, node))
                assert sorted(dump.splitlines()) == sorted(planned.splitlines())


@pytest.mark.parametrize("user", USERS[-1:])  # the stricter
def test_a_dump_shows_the_planned_flows_with_table_names(user: str) -> None:
    run_in_box(tables_are_the_plans, user)
