"""Runs that compare proxies or paths, sweep Services, and change the cluster: what their summary and figures say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from testbed.analysis import junit
from testbed.analysis.compare import compare
from testbed.analysis.limits import limits
from testbed.analysis.load import load
from testbed.analysis.plots import draw
from testbed.analysis.report import write as write_report
from testbed.analysis.summary import summarise
from testbed.analysis.table import render
from tests.unit.service_results import experiment, write

Document = dict[str, Any]
PATHS = {
    "pod": {"from": "a", "to": "b:81"},
    "vip": {"from": "a", "to": "service/web:80", "baseline": "pod"},
    "other": {"from": "a", "to": "c"},
}
PROXIES = ["openflow", "iptables", "nftables"]
CHURN = [{"at_s": 0.2, "scale": {"deployment": "web", "replicas": 2}}]


def summarised(folder: Path, factors: Any = None, **changes: Any) -> Document:
    return summarise(write(folder, experiment(**changes), factors))


def only(entries: list[Document], **keys: Any) -> Document:
    """The one entry with these values."""
    (found,) = [entry for entry in entries if all(entry[key] == value for key, value in keys.items())]
    return found


def text_of(renderable: Any) -> str:
    console = Console(width=200, record=True, no_color=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(renderable)
    return console.export_text()


# --- proxies ---------------------------------------------------------------------------------------------------------


def test_every_proxy_is_compared_with_the_first_and_the_first_with_itself(tmp_path: Path) -> None:
    factors = {("vip", "iptables", "rtt_us"): 1.2}
    document = summarised(tmp_path, factors, proxies=PROXIES)
    assert document["question"] == "iptables and nftables against openflow"
    medians = [entry for entry in document["comparisons"] if entry["statistic"] == "median"]
    assert {(entry["numerator"], entry["denominator"], entry["role"]) for entry in medians} == {
        ("iptables", "openflow", "primary"),
        ("nftables", "openflow", "primary"),
    }
    slower = only(medians, numerator="iptables")
    assert slower["ratio"] == pytest.approx(1.2, rel=0.02)
    assert slower["verdict_text"].startswith("iptables ") and slower["verdict_text"].endswith("% slower than openflow")
    assert 1 < slower["noise_floor"] < 1.05
    assert (slower["mode"], slower["proxy"]) == ("routed", "iptables")
    assert only(medians, numerator="nftables")["verdict"] == "not distinguishable"
    assert [(entry["arm"], entry["proxy"], entry["control"]) for entry in document["arms"]] == [
        ("openflow", "openflow", ""),
        ("iptables", "iptables", ""),
        ("nftables", "nftables", ""),
        ("openflow_aa", "openflow", "aa"),
    ]
    text = text_of(render(document))
    assert "vip, iptables" in text and "vip, nftables" in text
    assert text.splitlines()[0].split()[:3] == ["path", "openflow", "compared"]


def test_within_each_mode_its_own_first_proxy_is_the_measure(tmp_path: Path) -> None:
    document = summarised(tmp_path, modes=["overlay", "routed"], proxies=PROXIES[:2])
    medians = [entry for entry in document["comparisons"] if entry["statistic"] == "median"]
    assert [(entry["numerator_arm"], entry["denominator_arm"], entry["within"]) for entry in medians] == [
        ("overlay_iptables", "overlay_openflow", "overlay"),
        ("routed_iptables", "routed_openflow", "routed"),
    ]
    names = [case.name for case in junit.cases(document) if case.suite == "verdicts"]
    assert names == ["udp_rr vip, overlay", "udp_rr vip, routed"]


def test_expectations_speak_about_one_proxy_or_all(tmp_path: Path) -> None:
    factors = {("vip", "iptables", "rtt_us"): 1.5}
    wanted = [
        {"probe": "udp_rr", "proxy": "nftables", "at_most": 1.1},
        {"probe": "udp_rr", "at_most": 1.1},
        {"probe": "udp_rr", "statistic": "median", "proxy": "iptables", "at_least": 250},
    ]
    found = summarised(tmp_path, factors, proxies=PROXIES, expect=wanted)["expectations"]
    assert [entry["met"] for entry in found] == [True, False, True]
    assert found[0]["text"] == "udp_rr: ratio in nftables on every path at most 1.1"
    assert "vip iptables 64 bytes: 1.5" in found[1]["detail"] or "vip iptables 64 bytes: 1.4" in found[1]["detail"]


# --- paths -----------------------------------------------------------------------------------------------------------


def test_a_path_is_compared_with_its_baseline_in_every_mode(tmp_path: Path) -> None:
    factors = {("vip", "openflow", "rtt_us"): 1.1, ("other", "openflow", "rtt_us"): 3.0}
    document = summarised(tmp_path, factors, paths=PATHS, modes=["overlay", "routed"])
    medians = [entry for entry in document["comparisons"] if entry["statistic"] == "median"]
    assert [(entry["path"], entry["denominator_path"], entry["within"]) for entry in medians] == [
        ("vip", "pod", "overlay"),
        ("vip", "pod", "routed"),
    ]
    for entry in medians:
        assert entry["ratio"] == pytest.approx(1.1, rel=0.02)
        assert entry["noise_floor"] is not None and entry["noise_floor"] < 1.05
        assert entry["verdict_text"].endswith("% slower than pod")
    # The baseline is executed once more in each arm; nothing else is.
    again = [entry for entry in document["arms"] if entry["control"] == "aa"]
    assert [(entry["arm"], entry["path"]) for entry in again] == [("overlay_aa", "pod"), ("routed_aa", "pod")]
    assert "vip / pod, overlay" in text_of(render(document))
    assert {entry["arm"] for entry in document["evidence"]} == {"overlay", "routed"}


def test_two_runs_that_compare_paths_side_by_side(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / name, experiment(paths=PATHS), {("vip", "openflow", "rtt_us"): factor})
        for name, factor in (("a", 1.1), ("b", 1.5))
    ]
    (row,) = compare(*folders).rows
    assert row.intervals_overlap is False
    assert "vip / pod" in text_of(compare(*folders))


# --- sweeps, churn, shares -------------------------------------------------------------------------------------------


def figures(results: Path) -> set[str]:
    summarise(results)
    return {file.stem for file in draw(results) if file.suffix == ".png"}


def test_sweeps_of_services_and_of_endpoints_are_told_apart(tmp_path: Path) -> None:
    sizes = ((1, 1), (100, 1), (1000, 1), (100, 10), (100, 100))
    planned = experiment(
        proxies=PROXIES[:2],
        rounds=8,
        builds=[
            {"name": f"s{services}-e{endpoints}", "generate": {"services": services, "endpoints": endpoints}}
            for services, endpoints in sizes
        ],
        probes=[{"kind": "first_packet"}, {"kind": "tcp_crr"}, {"kind": "program"}],
    )
    results = write(tmp_path, planned)
    drawn = figures(results)
    assert {"ratio", "sweep_services", "sweep_endpoints"} <= drawn
    assert "scaling" not in drawn
    document = load(results).document
    primary = [entry for entry in document["comparisons"] if entry["role"] == "primary"]
    assert [(entry["build"], entry["metric"]) for entry in primary] == [
        (f"s{services}-e{endpoints}", "first_connection_us") for services, endpoints in sizes
    ]
    programmed = only(document["comparisons"], build="s100-e1", metric="program_ms", statistic="median")
    assert (programmed["path"], programmed["role"]) == ("", "exploratory")


def test_a_connection_a_second_is_never_primary(tmp_path: Path) -> None:
    document = summarised(tmp_path, proxies=PROXIES[:2], probes=[{"kind": "tcp_crr"}])
    roles = {entry["metric"]: entry["role"] for entry in document["comparisons"] if entry["statistic"] == "median"}
    assert roles == {"connect_rtt_us": "primary", "connections_per_s": "exploratory"}
    assert only(document["comparisons"], metric="connections_per_s")["better"] == "higher"


@pytest.fixture(scope="module")
def churned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a steady http probe and one during which pods are taken away, summarised and drawn."""
    http = {"kind": "http", "rate_per_s": 200.0, "keep_alive": False}
    planned = experiment(
        proxies=PROXIES[:2], rounds=8, probes=[{**http, "name": "steady"}, {**http, "name": "churn", "events": CHURN}]
    )
    results = write(tmp_path_factory.mktemp("churned"), planned)
    assert {"churn_churn_vip", "shares_steady"} <= figures(results)
    return results


def test_requests_without_a_good_answer_are_counted_per_round(churned: Path) -> None:
    document = load(churned).document
    counts = only(document["counts"], probe="churn", arm="iptables", metric="failed")
    assert (counts["rounds"], counts["total"], counts["median"], counts["maximum"]) == (8, 8, 1.0, 1)
    arm = only(document["arms"], probe="churn", arm="openflow", metric="request_us")
    assert (arm["lost"], arm["loss"]) == (8, pytest.approx(16 / (16 + arm["samples"])))
    text = text_of(render(document))
    assert "churn vip, openflow: 8 requests lost in 8 rounds (median 1 a round, most 1)" in text
    assert "steady vip, openflow" not in text
    assert "Requests without a good answer in time" in write_report(churned).read_text()


def test_how_long_removed_pods_answered_is_told_and_not_compared(churned: Path) -> None:
    document = load(churned).document
    assert only(document["arms"], metric="stale_ms", arm="openflow")["median"] == 12.0
    assert only(document["stale"], arm="iptables") == {
        "build": "main",
        "probe": "churn",
        "path": "vip",
        "arm": "iptables",
        "events": 8,
        "answered_after": 8,
        "median_ms": 12.0,
        "maximum_ms": 12.0,
    }
    assert "stale_ms" not in {entry["metric"] for entry in document["comparisons"]}
    text = text_of(render(document))
    assert "churn vip, openflow: removed pods answered after 8 of 8 events (median 12 ms, longest 12 ms)" in text
    assert "openflow_aa: " not in text


def test_every_request_is_kept_with_who_answered(churned: Path) -> None:
    results = load(churned)
    assert len(results.requests) == 8 * 3 * 2 * 120
    refused = results.requests[results.requests["problem"] == "refused"]
    assert set(refused["status"]) == {0} and set(refused["pod"].astype(str)) == {""}
    assert results.events.iloc[0]["removed"] == ["web-2", "web-3"]


def test_how_connections_are_spread_over_many_endpoints_is_stated(churned: Path) -> None:
    results = load(churned)

    def said(count: int, proxies: list[str]) -> str:
        facts = {"main": {"endpoints": {"service/web:80": count}}}
        found = limits(results.document, {"builds": facts}, {**results.experiment, "proxies": proxies})
        return "".join(sentence for sentence in found if "Among" in sentence)

    assert "1/40 by -6% to +9%: an endpoint has 6 or 7 of 256 slots" in said(40, ["openflow"])
    assert "by scores" in said(37, ["openflow"]) and "by scores" in said(100, ["openflow"])
    assert [said(count, ["openflow"]) for count in (1, 4, 7, 64)] == ["", "", "", ""]
    assert said(100, ["nftables"]) == ""


def test_one_arm_alone_gives_a_table_of_plain_medians(tmp_path: Path) -> None:
    document = summarised(tmp_path)
    assert document["comparisons"] == [] and document["question"] == ""
    text = text_of(render(document))
    assert "udp_rr" in text and "routed" in text and "µs to" in text


def test_a_reason_why_nothing_can_be_said_is_given_once(tmp_path: Path) -> None:
    reasons = summarised(tmp_path, proxies=PROXIES, rounds=5)["outcome"]["reasons"]
    assert reasons == [
        "udp_rr vip iptables 64 bytes, udp_rr vip nftables 64 bytes: "
        "inconclusive: 5 valid rounds, at least 8 are needed"
    ]
