"""From samples to summary.json: what is counted, what is compared, what may be claimed, how the run ends."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from testbed.analysis.cells import cells, samples_with_validity
from testbed.analysis.expectations import evaluate, expectation_text
from testbed.analysis.limits import limits
from testbed.analysis.load import load
from testbed.analysis.statistics import Interval
from testbed.analysis.summary import primary_probe, summarise, summary
from testbed.analysis.verdict import comparative, judge, percent
from tests.unit.synthetic_results import COLUMNS, Synthetic, environment

Document = dict[str, Any]
RESAMPLES = 200


def summarised(directory: Path, **wishes: Any) -> Document:
    """The summary of a synthetic run: 10 rounds on one path with 20 samples a cell, unless ``wishes`` differ."""
    defaults: Document = {
        "rounds": 10,
        "samples": 20,
        "paths": ("cross_leaf",),
        "throughput": False,
        "first_packet": False,
    }
    return summary(load(Synthetic(**{**defaults, **wishes}).write(directory)), RESAMPLES)


def only(entries: list[Document], **keys: Any) -> Document:
    """The one entry with these values."""
    (found,) = [entry for entry in entries if all(entry[key] == value for key, value in keys.items())]
    return found


# --- the figures -----------------------------------------------------------------------------------------------------


def hand_made(directory: Path, rows: list[str], rounds: list[Document]) -> Path:
    """A folder with exactly these samples (without the build column) and rounds."""
    Synthetic(rounds=1, samples=1, paths=("cross_leaf",), throughput=False, first_packet=False).write(directory)
    text = "\n".join([",".join(COLUMNS), *(f"main,{row}" for row in rows)]) + "\n"
    (directory / "samples.csv.gz").write_bytes(gzip.compress(text.encode()))
    entries = [
        {"build": "main", "order": [], "started": "2026-11-20T12:30:00Z", "duration_s": 1, **entry} for entry in rounds
    ]
    (directory / "rounds.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    return directory


def test_medians_ratio_and_loss_of_a_run_worked_out_by_hand(tmp_path: Path) -> None:
    rows = []
    for number, (overlay, routed) in enumerate(
        [((110, 120, 130), (100, 100, 400)), ((90, 130, 900), (100, 100, 100))], 1
    ):
        for position, (arm, values) in enumerate((("overlay", overlay), ("routed", routed))):
            rows += [f"{number},1,{position},{arm},{arm},cross_leaf,udp_rr,64,rtt_us,{value}" for value in values]
    rows += ["1,1,0,overlay,overlay,cross_leaf,udp_rr,64,lost,1", "2,1,0,overlay,overlay,cross_leaf,udp_rr,64,lost,1"]
    rounds = [{"round": number, "attempt": 1, "valid": True, "causes": []} for number in (1, 2)]
    document = summary(load(hand_made(tmp_path, rows, rounds)), RESAMPLES)
    overlay = only(document["arms"], arm="overlay")
    assert (overlay["rounds"], overlay["samples"], overlay["lost"]) == (2, 6, 2)
    assert overlay["median"] == 125  # of all six merged: 90 110 120 130 130 900
    assert overlay["loss"] == 0.25  # 2 of 8
    assert overlay["p99"] is None and overlay["p999"] is None
    assert only(document["arms"], arm="routed")["loss"] == 0
    compared = only(document["comparisons"], statistic="median")
    # Round medians 120 / 100 and 130 / 100.
    assert compared["ratio"] == pytest.approx(math.sqrt(1.2 * 1.3))
    assert (compared["rounds"], compared["p"]) == (2, 0.5)
    assert compared["verdict"] == "inconclusive"


def test_a_cell_with_several_metrics_loses_each_by_itself(tmp_path: Path) -> None:
    key = "1,1,0,routed,routed,cross_leaf,first_packet,"
    rows = [f"{key},first_packet_us,500", f"{key},first_packet_us,510", f"{key},first_connection_us,900"]
    rows += [f"{key},lost.first_packet_us,0", f"{key},lost.first_connection_us,1"]
    arms = summary(load(hand_made(tmp_path, rows, [{"round": 1, "attempt": 1, "valid": True, "causes": []}])))["arms"]
    assert {entry["metric"]: (entry["lost"], entry["loss"]) for entry in arms} == {
        "first_packet_us": (0, 0),
        "first_connection_us": (1, 0.5),
    }


def test_void_attempts_are_left_out_and_listed_with_their_causes(tmp_path: Path) -> None:
    clean = summarised(tmp_path / "clean", rounds=10)
    document = summarised(tmp_path / "void", rounds=10, void={3: ["packet loss on cross_leaf"]})
    assert document["rounds"]["builds"] == [{"build": "main", "planned": 10, "valid": 10, "void": 1, "missing": 0}]
    assert document["rounds"]["void"] == [
        {"build": "main", "round": 3, "attempt": 1, "causes": ["packet loss on cross_leaf"], "rerun_valid": True}
    ]
    # The void attempt is 60% slower; a median of its samples would show.
    assert only(document["arms"], arm="routed")["samples"] == only(clean["arms"], arm="routed")["samples"]
    assert only(document["arms"], arm="routed")["median"] == pytest.approx(
        only(clean["arms"], arm="routed")["median"], rel=0.02
    )


def test_an_attempt_without_its_record_is_not_valid(tmp_path: Path) -> None:
    folder = Synthetic(rounds=10, samples=5, paths=("cross_leaf",), status="running").write(tmp_path)
    lines = (folder / "rounds.jsonl").read_text().splitlines(keepends=True)
    (folder / "rounds.jsonl").write_text("".join(lines[:-1]))
    document = summary(load(folder), RESAMPLES)
    assert only(document["rounds"]["builds"], build="main")["missing"] == 1
    assert {entry["rounds"] for entry in document["arms"]} == {9}


def test_of_two_valid_attempts_the_last_counts(tmp_path: Path) -> None:
    rows = [f"1,{attempt},0,routed,routed,cross_leaf,udp_rr,64,rtt_us,{100 * attempt}" for attempt in (1, 2)]
    rounds = [{"round": 1, "attempt": attempt, "valid": True, "causes": []} for attempt in (1, 2)]
    samples = samples_with_validity(load(hand_made(tmp_path, rows, rounds)))
    assert samples.loc[samples["valid"], "value"].tolist() == [200]


@pytest.mark.parametrize(("count", "p99", "p999"), [(99, False, False), (100, True, False), (10_000, True, True)])
def test_tail_quantiles_need_enough_samples(tmp_path: Path, count: int, p99: bool, p999: bool) -> None:
    rows = [f"1,1,0,routed,routed,cross_leaf,udp_rr,64,rtt_us,{value}" for value in range(1, count + 1)]
    folder = hand_made(tmp_path, rows, [{"round": 1, "attempt": 1, "valid": True, "causes": []}])
    (arm,) = summary(load(folder), RESAMPLES)["arms"]
    assert (arm["p99"] is not None, arm["p999"] is not None) == (p99, p999)
    if p99:  # linear interpolation between order statistics: 1 + 0.99 * (count - 1)
        assert arm["p99"] == pytest.approx(1 + 0.99 * (count - 1))


def test_cells_are_one_row_per_probe_path_and_arm_of_an_attempt(tmp_path: Path) -> None:
    folder = Synthetic(rounds=3, samples=200, paths=("same_leaf", "cross_leaf"), void={2: ["steal"]}).write(tmp_path)
    results = load(folder)
    samples = samples_with_validity(results)
    table = cells(samples, results.experiment)
    rtt = table[table["probe"] == "udp_rr"]
    assert len(rtt) == 4 * 3 * 2  # attempts, arms, paths
    assert (rtt["samples"] == 200).all() and rtt["p99"].notna().all()
    one = samples[(samples["position"] == rtt.iloc[0]["position"]) & (samples["round"] == 1)]
    assert rtt.iloc[0]["median"] == pytest.approx(np.median(one["value"]))
    assert rtt.iloc[0]["p99"] == pytest.approx(np.quantile(one["value"], 0.99))
    assert table[table["probe"] == "throughput"]["p99"].isna().all()


def test_what_is_listed_follows_the_experiment_and_not_the_order_of_measuring(tmp_path: Path) -> None:
    cells_measured = [("cross_leaf", "udp_rr", 64), ("cross_leaf", "first_packet", ""), ("same_leaf", "udp_rr", 64)]
    cells_measured += [("cross_leaf", "udp_rr", 16), ("elsewhere", "udp_rr", 64)]
    rows = [
        f"1,1,{position},routed,routed,{path},{probe},{payload},rtt_us,1"
        for position, (path, probe, payload) in enumerate(cells_measured)
    ]
    folder = hand_made(tmp_path, rows, [{"round": 1, "attempt": 1, "valid": True, "causes": []}])
    run = json.loads((folder / "run.json").read_text())
    run["experiment"]["paths"] = {"same_leaf": {}, "cross_leaf": {}}
    run["experiment"]["probes"] = [{"kind": "udp_rr"}, {"kind": "first_packet"}]
    (folder / "run.json").write_text(json.dumps(run))
    arms = summary(load(folder), RESAMPLES)["arms"]
    assert [(entry["probe"], entry["path"], entry["payload_bytes"]) for entry in arms] == [
        ("udp_rr", "same_leaf", 64),
        ("udp_rr", "cross_leaf", 16),
        ("udp_rr", "cross_leaf", 64),
        ("udp_rr", "elsewhere", 64),
        ("first_packet", "cross_leaf", None),
    ]


def test_flows_are_counted_per_bridge_and_not_compared(tmp_path: Path) -> None:
    builds = [{"name": name, "parameters": {"nodes": nodes}, "idle_ports": 0} for name, nodes in (("n2", 2), ("n4", 4))]
    document = summarised(tmp_path, rounds=8, builds=builds, flow_count=True)
    assert only(document["flows"], build="n4", arm="overlay") == {
        "build": "n4",
        "arm": "overlay",
        "bridges": 4,
        "minimum": 42,
        "median": 42.0,
        "maximum": 42,
    }
    assert {entry["probe"] for entry in document["comparisons"]} == {"udp_rr"}


# --- comparisons and verdicts ----------------------------------------------------------------------------------------


def test_a_clear_difference_is_claimed_and_equality_is_not(tmp_path: Path) -> None:
    document = summarised(tmp_path, samples=150, paths=("same_node", "cross_leaf"))
    slower = only(document["comparisons"], path="cross_leaf", statistic="median")
    assert (slower["verdict"], slower["role"]) == ("higher", "primary")
    assert slower["ratio_ci_low"] < 1.09 < slower["ratio_ci_high"] + 0.02
    assert slower["verdict_text"].startswith("overlay ") and slower["verdict_text"].endswith("% slower than routed")
    assert only(document["comparisons"], path="same_node", statistic="median")["verdict"] == "not distinguishable"


def test_the_primary_family_is_one_median_ratio_per_path_and_alone_corrected(tmp_path: Path) -> None:
    document = summarised(tmp_path, samples=120, paths=("same_node", "cross_leaf"), throughput=True, first_packet=True)
    primary = [entry for entry in document["comparisons"] if entry["role"] == "primary"]
    assert [(entry["probe"], entry["path"], entry["statistic"]) for entry in primary] == [
        ("udp_rr", "same_node", "median"),
        ("udp_rr", "cross_leaf", "median"),
    ]
    smallest = min(entry["p"] for entry in primary)
    assert only(primary, p=smallest)["p_adjusted"] == pytest.approx(2 * smallest)
    exploratory = [entry for entry in document["comparisons"] if entry["role"] == "exploratory"]
    assert all(entry["p_adjusted"] is None for entry in exploratory)
    assert {(entry["probe"], entry["statistic"]) for entry in exploratory} == {
        ("udp_rr", "p99"),
        ("throughput", "median"),
        ("first_packet", "median"),
    }


def test_throughput_is_split_into_path_and_packet_size(tmp_path: Path) -> None:
    document = summarised(tmp_path, throughput=True)
    pairs = {
        (entry["numerator"], entry["denominator"]): entry
        for entry in document["comparisons"]
        if entry["probe"] == "throughput"
    }
    assert set(pairs) == {("overlay", "routed"), ("overlay", "routed_overlay_mtu"), ("routed_overlay_mtu", "routed")}
    whole = pairs["overlay", "routed"]
    assert (whole["better"], whole["verdict"]) == ("higher", "lower")
    assert whole["verdict_text"].endswith("% lower than routed")
    parts = pairs["overlay", "routed_overlay_mtu"]["ratio"] * pairs["routed_overlay_mtu", "routed"]["ratio"]
    assert whole["ratio"] == pytest.approx(parts)


def test_without_an_aa_pair_nothing_is_claimed(tmp_path: Path) -> None:
    (entry,) = summarised(tmp_path, aa=False)["comparisons"]
    assert (entry["noise_floor"], entry["verdict"]) == (None, "not judged")


def test_one_mode_alone_is_described_and_not_compared(tmp_path: Path) -> None:
    document = summarised(tmp_path, modes=("overlay",))
    assert document["comparisons"] == []
    assert [entry["arm"] for entry in document["arms"]] == ["overlay"]
    assert document["outcome"] == {"exit_status": 0, "reasons": []}


def verdict(**changes: Any) -> str:
    """The verdict on a ratio of 1.08 that may be claimed, with changes."""
    facts: Document = {
        "numerator": "overlay",
        "denominator": "routed",
        "metric": "rtt_us",
        "rounds": 10,
        "ratio": 1.08,
        "interval": Interval(1.07, 1.09),
        "p_value": 0.01,
        "family": 4,
        "floor": 1.01,
    }
    found = judge(**{**facts, **changes})
    assert found.claimed == (found.code in ("higher", "lower"))
    return f"{found.code} | {found.text}"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "higher | overlay 8.0% slower than routed"),
        ({"ratio": 0.9, "interval": Interval(0.88, 0.92)}, "lower | overlay 10.0% faster than routed"),
        (
            {"metric": "throughput_mbps", "ratio": 0.655, "interval": Interval(0.6, 0.7)},
            "lower | overlay 34.5% lower than routed",
        ),
        ({"ratio": 2.5, "interval": Interval(2, 3)}, "higher | overlay 150% slower than routed"),
        ({"p_value": 0.05}, "not distinguishable | not distinguishable: +8.0% with p = 0.05"),
        ({"floor": 1.09}, "not distinguishable | not distinguishable: +8.0% is within the noise floor"),
        (
            {"ratio": 0.93, "interval": Interval(0.9, 0.95), "floor": 1.08},
            "not distinguishable | not distinguishable: −7.0% is within the noise floor",
        ),
        (
            {"interval": Interval(0.99, 1.2)},
            "not distinguishable | not distinguishable: +8.0% has an interval that includes 0",
        ),
        ({"rounds": 7}, "inconclusive | inconclusive: 7 valid rounds, at least 8 are needed"),
        ({"rounds": 1, "interval": None}, "inconclusive | inconclusive: 1 valid round, at least 8 are needed"),
        (
            {"rounds": 8, "family": 7},
            "inconclusive | inconclusive: 8 valid rounds cannot reach p < 0.05 in a family of 7, 9 can",
        ),
        ({"rounds": 8, "family": 6}, "higher | overlay 8.0% slower than routed"),
        ({"floor": None}, "not judged | not judged: no A/A pair gives a noise floor"),
        ({"smoke": True, "rounds": 1}, "not judged | not judged (smoke)"),
    ],
)
def test_verdicts(changes: Document, expected: str) -> None:
    assert verdict(**changes) == expected


def test_percent_and_comparative_in_words() -> None:
    assert [percent(ratio) for ratio in (1.0, 0.9997, 1.0834, 0.5, 3.5)] == ["0.0%", "0.0%", "+8.3%", "−50.0%", "+250%"]
    words = [comparative("connect_rtt_us", 1.1), comparative("jitter_ms", 0.9), comparative("requests_per_s", 0.9)]
    assert words == ["slower", "faster", "lower"]


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        ({"primary": "mine", "probes": [{"kind": "udp_rr"}]}, "mine"),
        ({"probes": [{"kind": "throughput"}, {"kind": "tcp_rr", "name": "web"}, {"kind": "udp_rr"}]}, "web"),
        ({"probes": [{"kind": "throughput"}, {"kind": "flow_count"}]}, "throughput"),
        ({}, ""),
    ],
)
def test_the_primary_probe(experiment: Document, expected: str) -> None:
    assert primary_probe(experiment) == expected


# --- expectations ----------------------------------------------------------------------------------------------------

SERIES = {"build": "main", "probe": "udp_rr", "metric": "rtt_us", "payload_bytes": 64}
PAIR = {"statistic": "median", "numerator": "overlay", "denominator": "routed", "headline": True, "by": "mode"}
PAIR |= {"mode": None, "proxy": "openflow", "within": ""}
COMPARISONS = [
    SERIES | PAIR | {"path": path, "ratio": ratio, "ratio_ci_low": ratio - 0.01, "ratio_ci_high": ratio + 0.01}
    for path, ratio in (("same_leaf", 1.05), ("cross_leaf", 1.2))
]
ARMS = [
    SERIES
    | {"path": "cross_leaf", "arm": arm, "mode": arm.removesuffix("_aa"), "proxy": "openflow", "control": control}
    | {"median": median, "p99": None, "loss": 0.0}
    for arm, median, control in (("overlay", 180.0, ""), ("routed", 150.0, ""), ("routed_aa", 999.0, "aa"))
]


@pytest.mark.parametrize(
    ("expectation", "met"),
    [
        ({"path": "cross_leaf", "at_most": 1.2}, True),
        ({"path": "cross_leaf", "at_most": 1.19}, False),
        ({"at_most": 1.1}, False),  # same_leaf meets it, cross_leaf does not
        ({"at_least": 1.0, "at_most": 1.3}, True),
        ({"path": "cross_leaf", "statistic": "ratio_ci_high", "at_most": 1.2}, False),
        ({"path": "cross_leaf", "statistic": "ratio_ci_low", "at_least": 1.18}, True),
        ({"path": "cross_leaf", "statistic": "median", "mode": "routed", "at_most": 160}, True),
        ({"path": "cross_leaf", "statistic": "median", "at_most": 160}, False),  # both modes
        ({"statistic": "loss", "at_most": 0}, True),
        ({"statistic": "p99", "mode": "overlay", "at_most": 1e9}, False),  # not available
        ({"path": "nowhere", "at_most": 9}, False),
        ({"payload_bytes": 1400, "at_most": 9}, False),
        ({"build": "other", "at_most": 9}, False),
    ],
)
def test_expectations(expectation: Document, met: bool) -> None:
    assert evaluate({"probe": "udp_rr", **expectation}, COMPARISONS, ARMS)["met"] is met


def test_an_expectation_says_what_was_found() -> None:
    found = evaluate({"probe": "udp_rr", "path": "cross_leaf", "at_most": 1.19}, COMPARISONS, ARMS)
    assert found["text"] == "udp_rr: ratio overlay/routed on cross_leaf at most 1.19"
    assert found["detail"] == "cross_leaf 64 bytes: 1.2"
    missing = evaluate({"probe": "tcp_rr", "at_most": 1}, COMPARISONS, ARMS)
    assert missing["detail"] == "nothing was measured that it speaks about"
    full = {
        "probe": "p",
        "statistic": "p99",
        "mode": "routed",
        "build": "n4",
        "payload_bytes": 64,
        "at_least": 1,
        "at_most": 2,
    }
    assert expectation_text(full) == (
        "p: 99th percentile in routed on every path with 64 bytes in build n4 at least 1 and at most 2"
    )


# --- evidence and outcome --------------------------------------------------------------------------------------------


def test_evidence_is_counted_per_path_and_arm_with_an_example(tmp_path: Path) -> None:
    document = summarised(tmp_path, paths=("same_node", "cross_leaf"))
    overlay = only(document["evidence"], path="cross_leaf", arm="overlay")
    assert (overlay["rounds"], overlay["ok_rounds"]) == (10, 10)
    assert overlay["example"]["outer"]["udp_dst"] == 4789
    assert overlay["example"]["vni"] == 1
    assert sum(way["rounds"] for way in overlay["ways"]) == 10
    assert {way["way"] for way in overlay["ways"]} <= {"leaf1 – spine1 – leaf2", "leaf1 – spine2 – leaf2"}
    routed = only(document["evidence"], path="cross_leaf", arm="routed")["example"]
    assert (routed["outer"], routed["vni"]) == (None, None)


def test_a_valid_round_without_evidence_ends_the_run_with_status_1(tmp_path: Path) -> None:
    folder = Synthetic(rounds=8, samples=5, paths=("cross_leaf",), throughput=False, first_packet=False).write(tmp_path)
    file = folder / "evidence.jsonl"
    kept = [
        line for line in map(json.loads, file.read_text().splitlines()) if (line["round"], line["arm"]) != (2, "routed")
    ]
    kept = [
        {**line, "ok": False, "detail": "VNI 7 instead of 1"}
        if (line["round"], line["arm"]) == (3, "overlay")
        else line
        for line in kept
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in kept))
    document = summary(load(folder), RESAMPLES)
    assert document["outcome"]["exit_status"] == 1
    assert sorted(document["outcome"]["reasons"]) == [
        "no packet evidence for cross_leaf in overlay (build main) in 1 of 8 rounds: VNI 7 instead of 1",
        "no packet evidence for cross_leaf in routed (build main) in 1 of 8 rounds: no evidence was recorded",
    ]


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({}, None),
        ({"rounds": 5}, "udp_rr cross_leaf 64 bytes: inconclusive: 5 valid rounds, at least 8 are needed"),
        (
            {"expect": [{"probe": "udp_rr", "at_most": 1.01}]},
            "expectation not met: udp_rr: ratio overlay/routed on every",
        ),
        ({"expect": [{"probe": "udp_rr", "at_most": 2.0}]}, None),
        ({"status": "partial"}, "the run ended early (status: partial)"),
        ({"rounds": 1, "smoke": True, "expect": [{"probe": "udp_rr", "at_most": 0.1}]}, None),
    ],
)
def test_the_outcome_is_the_exit_status_with_its_reasons(tmp_path: Path, wishes: Document, reason: str | None) -> None:
    outcome = summarised(tmp_path, **wishes)["outcome"]
    assert outcome["exit_status"] == (0 if reason is None else 1)
    if reason is not None:
        assert outcome["reasons"][0].startswith(reason)


def test_a_run_killed_before_its_first_round_ended_is_summarised(tmp_path: Path) -> None:
    folder = Synthetic(rounds=3, samples=5, status="running").write(tmp_path)
    (folder / "rounds.jsonl").unlink()
    (folder / "evidence.jsonl").unlink()
    document = summary(load(folder), RESAMPLES)
    assert document["outcome"]["reasons"][0] == "build main: no valid round"
    assert document["arms"] == []
    assert {entry["verdict"] for entry in document["comparisons"]} == {"inconclusive"}


def test_summary_json_is_strict_json_and_the_same_each_time(tmp_path: Path) -> None:
    folder = Synthetic(rounds=8, samples=5, paths=("cross_leaf",)).write(tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in summary.json")

    document = summarise(folder)
    text = (folder / "summary.json").read_text()
    assert json.loads(text, parse_constant=refuse) == document
    assert document["format"] == "testbed-results/v1"
    summarise(folder)
    assert (folder / "summary.json").read_text() == text


# --- limits ----------------------------------------------------------------------------------------------------------


def test_limits_follow_from_what_was_recorded(tmp_path: Path) -> None:
    document = summarised(tmp_path, status="partial", rounds=8, other_load_pct=45.4)
    document["rounds"]["builds"][0]["missing"] = 2
    crowded = environment(builds={"n8": {"ports_per_vswitchd": {"n1": 40, "n2": 5}, "warnings": ["many ports."]}})
    text = "\n".join(limits(document, crowded))
    for part in (
        "did not finish (status: partial)",
        "2 in build main",
        "ran in userspace",
        "in build n8 (n1: 40)",
        "many ports.",
        "45% of the processors",
        "routes: static",
        "netem",
    ):
        assert part in text
    assert "n2" not in text
    quiet = summarised(tmp_path / "quiet", rounds=8)
    mixed = {"paths": {"up": {"from": "node/n1", "to": "web"}, "across": {"from": "a", "to": "b"}}}
    text = "\n".join(limits(quiet, environment(), mixed))
    assert "(up)" in text and "one bridge more" in text
    kernel = "\n".join(limits(quiet, environment(datapath="system", warnings=[])))
    assert not any(part in kernel for part in ("userspace", "did not finish", "netem", "processors (median"))
