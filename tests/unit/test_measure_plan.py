"""What is measured and in which order: arms, cells, ports, reruns."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from testbed.measure import plan
from testbed.spec.models import Build, Experiment

BUILD = Build()
PODS = {"near": {"from": "a", "to": "b"}, "far": {"from": "a", "to": "c"}}


def experiment(**changes: Any) -> Experiment:
    fields = {
        "format": "testbed/v1",
        "name": "test",
        "topology": {"name": "leaf_spine"},
        "paths": {
            "near": {"from": "a", "to": "b"},
            "far": {"from": "a", "to": "c"},
            "unused": {"from": "b", "to": "c"},
        },
        "probes": [
            {
                "kind": "udp_rr",
                "paths": ["near", "far"],
                "payload_bytes": [64, 1400],
                "duration_s": 1.0,
                "warmup_s": 0.5,
            },
            {"kind": "throughput", "paths": ["far"], "duration_s": 2.0, "warmup_s": 0.0},
            {"kind": "first_packet", "paths": ["far"], "duration_s": 0.5},
            {"kind": "flow_count"},
        ],
    }
    return Experiment.model_validate(fields | changes)


def arm(name: str, **changes: Any) -> plan.Arm:
    return next(arm for arm in plan.plan_arms(experiment(**changes)) if arm.name == name)


def described(cells: tuple[plan.Cell, ...]) -> list[tuple[str, str, int | None]]:
    return [(cell.probe.label, cell.path, cell.payload_bytes) for cell in cells]


def test_first_packets_come_before_anything_that_warms_the_way_up() -> None:
    assert described(plan.plan_cells(experiment(), arm("overlay"))) == [
        ("first_packet", "far", None),
        ("udp_rr", "near", 64),
        ("udp_rr", "near", 1400),
        ("udp_rr", "far", 64),
        ("udp_rr", "far", 1400),
        ("throughput", "far", None),
        ("flow_count", "", None),
    ]


def test_only_throughput_is_measured_at_the_overlays_mtu() -> None:
    assert described(plan.plan_cells(experiment(), arm("routed_overlay_mtu"))) == [("throughput", "far", None)]
    assert plan.used_paths(experiment(), arm("routed_overlay_mtu")) == ("far",)
    assert plan.used_paths(experiment(), arm("routed")) == ("near", "far")


def test_arms_are_those_that_the_comparison_needs() -> None:
    both = [arm.name for arm in plan.plan_arms(experiment())]
    assert both == ["overlay", "routed", "routed_aa", "routed_overlay_mtu"]
    no_throughput = experiment(probes=[{"kind": "udp_rr"}])
    assert [arm.name for arm in plan.plan_arms(no_throughput)] == ["overlay", "routed", "routed_aa"]
    assert [arm.name for arm in plan.plan_arms(experiment(modes=["overlay"]))] == ["overlay"]
    assert [arm.name for arm in plan.plan_arms(experiment(modes=["routed"]))] == ["routed"]


def test_the_order_is_drawn_from_the_seed_and_changes_between_rounds() -> None:
    orders = [plan.plan_attempt(experiment(), BUILD, 7, number, 1).arms for number in range(1, 41)]
    again = [plan.plan_attempt(experiment(), BUILD, 7, number, 1).arms for number in range(1, 41)]
    assert orders == again
    assert orders != [plan.plan_attempt(experiment(), BUILD, 8, number, 1).arms for number in range(1, 41)]
    # Every arm comes first about as often: 40 draws of 4, expected 10 each.
    assert all(3 <= count <= 20 for count in Counter(order[0].name for order in orders).values())
    assert all(sorted(arm.name for arm in order) == sorted(arm.name for arm in orders[0]) for order in orders)


@given(seed=st.integers(0, 2**63 - 1), number=st.integers(1, 1000))
def test_a_source_port_is_the_same_in_all_arms_and_never_an_ephemeral_one(seed: int, number: int) -> None:
    drawn = plan.source_port(seed, BUILD, number, "far")
    assert drawn == plan.source_port(seed, BUILD, number, "far")
    assert 20000 <= drawn < 32768


def test_source_ports_differ_between_rounds_and_paths() -> None:
    drawn = {plan.source_port(1, BUILD, number, path) for number in range(1, 21) for path in ("near", "far")}
    assert len(drawn) > 35


def test_half_as_many_reruns_as_rounds() -> None:
    assert [plan.rerun_budget(rounds) for rounds in (1, 2, 10, 11)] == [3, 1, 5, 5]


def test_the_estimate_adds_up_what_takes_time() -> None:
    once = plan.estimate_seconds(experiment(rounds=1))
    assert plan.estimate_seconds(experiment(rounds=10)) == 10 * once
    measuring = 3 * (0.5 + 4 * 1.5 + 2.0) + 2.0  # three full arms and one of throughput alone; flow_count takes no time
    assert measuring < once < measuring + 4


def test_smoke_is_one_short_round_of_everything() -> None:
    short = plan.smoke(experiment())
    assert short.rounds == 1
    assert {probe.kind: probe.duration_s for probe in short.probes} == {
        "udp_rr": 0.1,
        "throughput": 0.3,
        "first_packet": 0.1,
        "flow_count": 0.1,
    }
    assert described(plan.plan_cells(short, arm("routed"))) == described(plan.plan_cells(experiment(), arm("routed")))
    assert plan.cells_per_round(short) == 3 * 7 + 1
