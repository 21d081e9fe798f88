"""What is measured and in which order: arms, cells, ports, reruns."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.contrast import Contrast
from testbed.measure import plan
from testbed.spec.models import Build, Experiment

BUILD = Build()


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


SERVICE_PATHS = {
    "pod": {"from": "a", "to": "b:81"},
    "vip": {"from": "a", "to": "service/web:80", "baseline": "pod"},
    "other": {"from": "a", "to": "c"},
}


def names(**changes: Any) -> list[tuple[str, str, str]]:
    return [(arm.name, arm.proxy, arm.control) for arm in plan.plan_arms(experiment(**changes))]


def test_proxies_run_in_every_mode_and_the_first_is_executed_again() -> None:
    probes = [{"kind": "udp_rr", "paths": ["near"]}]
    assert names(modes=["routed"], proxies=["openflow", "iptables"], probes=probes) == [
        ("openflow", "openflow", ""),
        ("iptables", "iptables", ""),
        ("openflow_aa", "openflow", "aa"),
    ]
    assert [name for name, _, _ in names(proxies=["nftables", "ipvs"], probes=probes)] == [
        "overlay_nftables",
        "overlay_ipvs",
        "routed_nftables",
        "routed_ipvs",
        "overlay_nftables_aa",
        "routed_nftables_aa",
    ]
    # Modes may be compared with several proxies, too.
    both = names(proxies=["openflow", "iptables"], compare="mode", probes=probes)
    assert [name for name, _, control in both if control] == ["routed_openflow_aa", "routed_iptables_aa"]


def test_contrasts_say_what_is_compared_with_what() -> None:
    probes = [{"kind": "udp_rr", "paths": ["near"]}]
    by_proxy = plan.plan_contrasts(experiment(modes=["routed"], proxies=["openflow", "iptables"], probes=probes))
    assert [(each.numerator, each.denominator, each.noise) for each in by_proxy] == [
        ("iptables", "openflow", ("openflow_aa", "openflow"))
    ]
    by_mode = plan.plan_contrasts(experiment())
    assert [(each.numerator, each.denominator, each.headline) for each in by_mode] == [
        ("overlay", "routed", True),
        ("overlay", "routed_overlay_mtu", False),
        ("routed_overlay_mtu", "routed", False),
    ]
    by_path = plan.plan_contrasts(experiment(paths=SERVICE_PATHS, probes=[{"kind": "udp_rr"}]))
    assert [(each.numerator_path, each.denominator_path, each.within, each.noise) for each in by_path] == [
        ("vip", "pod", "overlay", ("overlay_aa", "overlay")),
        ("vip", "pod", "routed", ("routed_aa", "routed")),
    ]
    assert plan.plan_contrasts(experiment(modes=["overlay"])) == ()
    for contrast in (*by_proxy, *by_mode, *by_path):
        assert Contrast.read(json.loads(json.dumps(contrast.document()))) == contrast


def test_every_contrast_names_arms_that_are_measured() -> None:
    for changes in (
        {},
        {"proxies": ["openflow", "iptables"]},
        {"proxies": ["openflow", "iptables"], "compare": "mode"},
        {
            "proxies": ["openflow", "iptables"],
            "compare": "path",
            "paths": SERVICE_PATHS,
            "probes": [{"kind": "udp_rr"}],
        },
    ):
        planned = experiment(**changes)
        known = {treatment.arm for treatment in plan.plan_treatments(planned)}
        measured = {cell.arm_name(arm) for arm in plan.plan_arms(planned) for cell in plan.plan_cells(planned, arm)}
        assert measured == known
        for contrast in plan.plan_contrasts(planned):
            assert {contrast.numerator_arm, contrast.denominator_arm, *contrast.noise} <= known


def test_a_baseline_is_executed_again_where_paths_are_compared() -> None:
    planned = experiment(paths=SERVICE_PATHS, modes=["routed"], probes=[{"kind": "udp_rr"}, {"kind": "first_packet"}])
    (routed,) = plan.plan_arms(planned)
    cells = plan.plan_cells(planned, routed)
    assert [(cell.probe.label, cell.path, cell.arm_name(routed)) for cell in cells[:4]] == [
        ("first_packet", "pod", "routed"),
        ("first_packet", "pod", "routed_aa"),
        ("first_packet", "vip", "routed"),
        ("first_packet", "other", "routed"),
    ]
    # A probe that measures no path that is compared with it has no use for it.
    alone = experiment(paths=SERVICE_PATHS, modes=["routed"], probes=[{"kind": "udp_rr", "paths": ["pod", "other"]}])
    assert not any(cell.again for cell in plan.plan_cells(alone, routed))


def test_where_paths_are_compared_their_order_is_drawn_within_each_stage() -> None:
    probes = [{"kind": "udp_rr"}, {"kind": "first_packet"}, {"kind": "program"}]
    planned = experiment(paths=SERVICE_PATHS, modes=["routed"], probes=probes)
    (routed,) = plan.plan_arms(planned)
    orders = []
    for number in range(1, 21):
        attempt = plan.plan_attempt(planned, BUILD, 7, number, 1)
        cells = plan.order_cells(planned, routed, attempt, 7)
        assert cells == plan.order_cells(planned, routed, attempt, 7)
        assert sorted(map(repr, cells)) == sorted(map(repr, plan.plan_cells(planned, routed)))
        kinds = [cell.probe.kind for cell in cells]
        assert kinds == ["first_packet"] * 4 + ["udp_rr"] * 4 + ["program"]
        orders.append([(cell.path, cell.again) for cell in cells if cell.probe.kind == "udp_rr"])
    assert {tuple(order[0]) for order in orders} == {("pod", False), ("pod", True), ("vip", False), ("other", False)}
    attempt = plan.plan_attempt(experiment(), BUILD, 7, 1, 1)
    assert plan.order_cells(experiment(), arm("routed"), attempt, 7) == plan.plan_cells(experiment(), arm("routed"))


def test_the_events_of_a_smoke_run_come_soon_and_all_fit() -> None:
    events = [{"at_s": at_s, "scale": {"deployment": "web", "replicas": 2}} for at_s in (5.0, 1.0, 9.0)]
    churn = {"kind": "http", "rate_per_s": 100.0, "duration_s": 20.0, "events": events}
    (short,) = plan.smoke(experiment(probes=[churn])).probes
    assert [event.at_s for event in short.events] == [0.1, 0.6, 1.1]
    assert short.duration_s == pytest.approx(1.6)
