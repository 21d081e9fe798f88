"""Figures, report, table, comparison and JUnit: they are made, say what they should, and are the same each time."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console

from testbed.analysis import junit, metrics, words
from testbed.analysis.compare import compare
from testbed.analysis.load import load
from testbed.analysis.plots import draw
from testbed.analysis.report import page, write
from testbed.analysis.summary import summarise
from testbed.analysis.table import render
from testbed.errors import InputError
from tests.unit.synthetic_results import Synthetic

VOID = {3: ["overlay: 2 packets lost by udp_rr on cross_leaf"], 7: ["CPU steal 4.2% > 2%"]}
DEMO = Synthetic(
    rounds=10,
    samples=150,
    void=VOID,
    expect=[
        {"probe": "udp_rr", "path": "cross_leaf", "at_most": 1.5},
        {"probe": "udp_rr", "path": "same_node", "statistic": "median", "mode": "routed", "at_most": 50},
    ],
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run like the demo's, summarised and drawn."""
    folder = DEMO.write(tmp_path_factory.mktemp("results") / "demo")
    summarise(folder)
    draw(folder)
    return folder


def text_of(renderable: Any, width: int = 200, **options: Any) -> str:
    """What a console prints."""
    stream = StringIO()
    Console(file=stream, width=width, no_color=True, **options).print(renderable)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


# --- figures ---------------------------------------------------------------------------------------------------------


def test_the_demo_has_every_figure_in_both_formats(demo: Path) -> None:
    names = {file.name for file in (demo / "plots").iterdir()}
    figures = {
        "ratio",
        "ratio_exploratory",
        "cdf_udp_rr",
        "throughput",
        "rounds_udp_rr",
        "rounds_throughput",
        "rounds_first_packet_first_packet_us",
        "rounds_first_packet_first_connection_us",
    }
    assert names == {f"{figure}.{suffix}" for figure in figures for suffix in ("svg", "png")}
    assert all((demo / "plots" / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in figures)


def test_figures_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    folder = Synthetic(rounds=2, samples=100, paths=("cross_leaf",), throughput=False, first_packet=False).write(
        tmp_path
    )
    summarise(folder)
    first = {file.name: file.read_bytes() for file in draw(folder)}
    assert len(first) == 8
    assert {file.name: file.read_bytes() for file in draw(folder)} == first


def test_a_payload_sweep_and_several_builds_have_figures_of_their_own(tmp_path: Path) -> None:
    builds = [
        {"name": name, "parameters": {"nodes": 2}, "idle_ports": idle} for name, idle in (("n2", 0), ("n2-idle", 28))
    ]
    folder = Synthetic(
        rounds=2,
        samples=100,
        builds=builds,
        payloads=(64, 1400, 1500),
        paths=("cross_leaf",),
        throughput=False,
        first_packet=False,
        flow_count=True,
    ).write(tmp_path)
    summarise(folder)
    names = {file.stem for file in draw(folder)}
    assert names == {"ratio", "ratio_exploratory", "payload_udp_rr", "scaling", "cdf_udp_rr", "rounds_udp_rr"}


@pytest.mark.parametrize(
    "wishes",
    [
        {"rounds": 1, "smoke": True},
        {"rounds": 2, "modes": ("routed",)},
        {"rounds": 1, "void": {}, "aa": False, "samples": 1},
    ],
)
def test_small_runs_are_drawn_and_reported_as_far_as_they_go(tmp_path: Path, wishes: dict[str, Any]) -> None:
    folder = Synthetic(**{"samples": 100, "paths": ("cross_leaf",), "first_packet": False, **wishes}).write(tmp_path)
    summarise(folder)
    assert draw(folder)
    assert "cross_leaf" in write(folder).read_text()
    text_of(render(load(folder).document))


def test_a_run_killed_in_its_first_round_is_drawn_and_reported(tmp_path: Path) -> None:
    folder = Synthetic(rounds=1, samples=100, status="running").write(tmp_path)
    for name in ("rounds.jsonl", "evidence.jsonl", "environment.json"):
        (folder / name).unlink()
    summarise(folder)
    draw(folder)
    assert "no valid round" in write(folder).read_text()
    assert "run running" in text_of(render(load(folder).document))


def test_figures_need_a_summary(tmp_path: Path) -> None:
    folder = Synthetic(rounds=1, samples=1).write(tmp_path)
    with pytest.raises(InputError, match=r"summary\.json"):
        draw(folder)


@pytest.mark.parametrize(
    ("metric", "noun", "unit", "is_time"),
    [
        ("rtt_us", "round-trip time", "µs", True),
        ("throughput_mbps", "throughput", "Mbit/s", False),
        ("jitter_ms", "jitter", "ms", True),
        ("requests_per_s", "requests", "1/s", False),
        ("queue_depth", "queue depth", "", False),
    ],
)
def test_a_metric_is_read_from_its_name(metric: str, noun: str, unit: str, is_time: bool) -> None:
    assert (metrics.noun(metric), metrics.unit(metric), metrics.is_time(metric)) == (noun, unit, is_time)


def test_figures_and_p_values_as_text() -> None:
    assert [metrics.figures_text(value) for value in (0.1234, 12.34, 168.4, 1230.2)] == [
        "0.123",
        "12.3",
        "168",
        "1,230",
    ]
    assert [words.p_text(p) for p in (None, 0.03125, 0.00001)] == ["–", "0.031", "< 0.0001"]
    assert [words.floor_text(floor) for floor in (None, 1.012)] == ["–", "±1.2%"]


# --- report ----------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Collects tags, links and text, and fails on tags that are not closed in order."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings: list[str] = []
        self.cells_per_row: list[list[int]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "table":
            self.cells_per_row.append([])
        if tag == "tr":
            self.cells_per_row[-1].append(0)
        if tag in ("td", "th"):
            self.cells_per_row[-1][-1] += 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def test_the_report_is_one_whole_page_without_anything_from_elsewhere(demo: Path) -> None:
    text = write(demo).read_text()
    found = Page(text)
    assert found.headings == [
        "Result",
        "Expectations",
        "Exploratory comparisons",
        "Figures",
        "All arms",
        "Evidence",
        "Rounds",
        "Method",
        "Limits",
        "Environment",
    ]
    assert len(found.sources) == 8 and all(source.startswith("data:image/svg+xml;base64,") for source in found.sources)
    assert not re.search(r"https?://|<script|@import|url\(", re.sub(r"base64,[\w+/=]+", "", text))
    assert all(len(set(rows)) == 1 for rows in found.cells_per_row), "a table row has another number of cells"


def test_the_report_says_what_was_found_and_on_what_it_rests(demo: Path) -> None:
    text = write(demo).read_text()
    for part in (
        "overlay 8.",  # the verdict
        "not distinguishable",
        "192.168.0.1 → 192.168.1.1 UDP 4789",
        "leaf1 – spine2 – leaf2",
        "CPU steal 4.2% &gt; 2%",
        "expectation not met: udp_rr: median in routed on same_node at most 50",
        "Holm, over the primary family",
        "routes: static",
        "Example CPU 2.6 GHz",
        "overlay: 1450, routed: 1500",
        "n1: 5, n2: 4, n3: 4, n4: 3",
        "Beside it, the kernel&#39;s own path on this machine",
        "netem is missing",
    ):
        assert part in text, part


def test_the_report_escapes_what_the_experiment_contains(demo: Path) -> None:
    results = load(demo)
    document = {**results.document, "description": "<script>alert(1)</script>"}
    copy = dataclasses.replace(results)
    copy.__dict__["document"] = document
    assert "&lt;script&gt;alert(1)" in page(copy) and "<script>" not in page(copy)


# --- table, comparison, JUnit ----------------------------------------------------------------------------------------


def test_the_table_in_a_pipe(demo: Path, golden: Callable[[str, str], None]) -> None:
    golden("analysis/table.txt", text_of(render(load(demo).document)))


def test_the_table_on_a_narrow_terminal(demo: Path, golden: Callable[[str, str], None]) -> None:
    golden("analysis/table_narrow.txt", text_of(render(load(demo).document), width=80))


def test_the_table_of_a_payload_sweep_names_the_payloads(tmp_path: Path) -> None:
    folder = Synthetic(rounds=2, samples=5, paths=("cross_leaf",), payloads=(64, 1400), throughput=False).write(
        tmp_path
    )
    text = text_of(render(summarise(folder)))
    assert "cross_leaf, 64 B" in text and "cross_leaf, 1400 B" in text


def test_two_runs_side_by_side(demo: Path, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    factors = {"same_node": 1.0, "same_leaf": 1.07, "cross_leaf": 1.3}
    other = Synthetic(
        rounds=10,
        samples=150,
        seed=2,
        overlay_factor=factors,
        paths=tuple(factors),
        first_packet=False,
        status="partial",
    ).write(tmp_path / "other")
    file = other / "environment.json"
    file.write_text(file.read_text().replace('"netdev"', '"system"').replace("6.18.1", "6.1.0-31"))
    found = compare(demo, other)
    assert [row.intervals_overlap for row in found.rows[:4]] == [True, True, False, None]
    assert found.warnings == (
        "kernel differs: 6.18.1 and 6.1.0-31; absolute times are not comparable",
        "datapath differs: netdev and system; absolute times are not comparable",
        "B is not complete: partial",
    )
    golden("analysis/compare.txt", text_of(found))


def test_a_run_compared_with_itself_has_no_warning(demo: Path) -> None:
    assert compare(demo, demo).warnings == ()


def test_junit(demo: Path, tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    file = tmp_path / "result.xml"
    junit.write(load(demo).document, file)
    golden("analysis/junit.xml", file.read_text())
    root = ElementTree.parse(file).getroot()
    assert {suite.get("name") for suite in root} == {"expectations", "verdicts", "evidence", "rounds"}
    assert int(root.get("failures", "")) == len(root.findall(".//failure")) == 1


@pytest.mark.parametrize(
    ("wishes", "failing"),
    [
        ({}, []),
        ({"rounds": 5}, ["udp_rr cross_leaf"]),
        ({"status": "partial"}, ["the whole run"]),
        ({"expect": [{"probe": "udp_rr", "at_most": 0.5}]}, ["udp_rr: ratio overlay/routed on every path at most 0.5"]),
        ({"rounds": 1, "smoke": True, "expect": [{"probe": "udp_rr", "at_most": 0.5}]}, []),
    ],
)
def test_junit_fails_exactly_when_the_exit_status_says_so(
    tmp_path: Path, wishes: dict[str, Any], failing: list[str]
) -> None:
    run = Synthetic(
        **{"rounds": 8, "samples": 5, "paths": ("cross_leaf",), "throughput": False, "first_packet": False, **wishes}
    )
    document = summarise(run.write(tmp_path))
    cases = junit.cases(document)
    assert [case.name for case in cases if case.result == "failed"] == failing
    assert document["outcome"]["exit_status"] == bool(failing)
    assert any(case.result == "skipped" for case in cases) == document["smoke"]


def test_junit_of_a_run_without_a_sample_fails(tmp_path: Path) -> None:
    file = tmp_path / "junit.xml"
    junit.write_failure("mine", "no round was measured (status 1)", file)
    suites = ElementTree.parse(file).getroot()
    assert (suites.get("tests"), suites.get("failures")) == ("1", "1")
    failure = suites.find("testsuite/testcase/failure")
    assert failure is not None
    assert "no round was measured" in f"{failure.get('message')}{failure.text}"
