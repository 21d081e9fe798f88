"""What events cost: which request is put down to which event, over rounds, against what was expected, and in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from testbed.analysis import junit
from testbed.analysis.events import owners, sentences, stale
from testbed.analysis.plots import draw
from testbed.analysis.report import write as write_report
from testbed.analysis.summary import summarise
from testbed.analysis.table import render
from tests.unit.service_results import experiment, write


def events(*entries: tuple[float, float], removed: tuple[str, ...] = (), action: str = "scale") -> pd.DataFrame:
    rows = [
        {"what": "x", "written_ms": written, "confirmed_ms": confirmed, "removed": removed, "added": ()}
        for written, confirmed in entries
    ]
    return pd.DataFrame(rows).assign(action=action)


def requests(*entries: tuple[float, float], pod: str = "a", status: int = 200) -> pd.DataFrame:
    rows = [{"due_ms": due, "over_ms": over, "status": status, "pod": pod} for due, over in entries]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("due_ms", "over_ms", "owner"),
    [
        (50.0, 60.0, -1),  # before everything
        (90.0, 110.0, 0),  # under way when the first came
        (100.0, 110.0, 0),
        (290.0, 310.0, 1),  # the first was over: the second cut it off
        (150.0, 1150.0, 0),  # the first was not over: it began to wait before the second
        (90.0, 1090.0, 0),  # under way when both came: the first of them
        (310.0, 320.0, 1),
        (900.0, 910.0, 1),
    ],
)
def test_a_request_is_put_down_to_the_event_that_can_have_cost_it(due_ms: float, over_ms: float, owner: int) -> None:
    happened = events((100.0, 200.0), (300.0, 350.0))
    assert owners(requests((due_ms, over_ms)), happened).tolist() == [owner]


def test_answers_of_removed_pods_are_stale_but_those_of_a_rollout() -> None:
    asked = requests((50.0, 60.0), (150.0, 160.0))
    assert stale(asked, events((100.0, 200.0), removed=("a",)), 0).tolist() == [False, True]
    assert stale(asked, events((100.0, 200.0), removed=("b",)), 0).tolist() == [False, False]
    assert stale(asked, events((100.0, 200.0), removed=("a",), action="rollout"), 0).tolist() == [False, False]


def run(folder: Path, *expected: dict[str, Any], **changes: Any) -> tuple[Path, dict[str, Any]]:
    """A run with one event at 0.2 s, which costs a refused request at 215 ms and a lost one at 220 ms."""
    (only,) = expected or ({},)
    event = {"at_s": 0.2, "scale": {"deployment": "web", "replicas": 2}, **({"expect": only} if only else {})}
    probe = {"kind": "http", "name": "churn", "rate_per_s": 200.0, "events": [event]}
    planned = experiment(probes=[probe], compare="nothing", **{"proxies": ["openflow", "nftables"], **changes})
    results = write(folder, planned)
    return results, summarise(results)


def test_what_an_event_cost_is_summed_up_per_arm(tmp_path: Path) -> None:
    _, document = run(tmp_path, rounds=3)
    assert [entry["arm"] for entry in document["events"]] == ["openflow", "nftables"]
    for entry in document["events"]:
        assert (entry["what"], entry["at_s"], entry["rounds"]) == ("web to 2", 0.2, 3)
        assert (entry["lost"], entry["lost_median"], entry["lost_maximum"]) == (6, 2.0, 2)
        # The lost request was due 20 ms after the event; when its client gave up does not count.
        assert entry["recovered_s"] == entry["recovered_s_maximum"] == 0.02
        assert entry["confirmed_s"] == 0.03
    assert document["comparisons"] == [] and document["outcome"]["exit_status"] == 0
    (sentence,) = sentences(document["events"])
    assert sentence.startswith("churn vip: web to 2 at 0.2 s was over after 0.03 s. It cost 2 requests in openflow")
    assert "the last due 0.02 s after it" in sentence


def test_an_expectation_of_an_event_is_told_by_name_everywhere(tmp_path: Path) -> None:
    limits = {"lost_at_most": 1, "late_at_most": 0, "recovered_within_s": 0.02, "confirmed_within_s": 0.01}
    results, document = run(tmp_path, limits, rounds=2)
    found = {entry["text"]: entry["met"] for entry in document["expectations"]}
    assert found == {
        "churn: web to 2 at 0.2 s: at most 1 lost": False,
        "churn: web to 2 at 0.2 s: at most 0 late": True,
        "churn: web to 2 at 0.2 s: recovered within 0.02 s": True,
        "churn: web to 2 at 0.2 s: over within 0.01 s": False,
    }
    assert document["expectations"][0]["detail"] == "vip openflow: 2; vip nftables: 2"
    assert document["outcome"]["exit_status"] == 1
    failed = {case.name for case in junit.cases(document) if case.result == "failed"}
    assert failed == {text for text, met in found.items() if not met}
    console = Console(width=200, record=True, no_color=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(render(document))
    assert "expectation NOT met: churn: web to 2 at 0.2 s: at most 1 lost" in console.export_text()
    assert "churn_churn_vip" in {file.stem for file in draw(results)}
    page = write_report(results).read_text()
    assert "<h2>Events</h2>" in page and sentences(document["events"])[0] in page


def test_an_event_that_never_came_about_is_not_met(tmp_path: Path) -> None:
    results, _ = run(tmp_path, {"lost_at_most": 9}, rounds=2)
    (results / "events.jsonl").unlink()
    (only,) = summarise(results)["expectations"]
    assert only["met"] is False and "did not come about" in only["detail"]
