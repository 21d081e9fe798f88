"""What a running cluster says of what happens in it: its Warnings, a line each."""

from __future__ import annotations

import pytest

from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import EVENT
from testbed.cluster.store import Store
from testbed.serving import Narrator, event_line
from tests.box.clusters import pod


def test_a_warning_is_one_line_whatever_its_message() -> None:
    store = Store()
    made = store.create({**pod("web"), "metadata": {"name": "web", "namespace": "prod"}})
    EventRecorder(store, "kubelet").record(made, "Warning", "Failed", "it ended:\n  no such  file\n")
    (event,) = store.list(EVENT).items
    event["lastTimestamp"] = "2026-01-02T03:04:05Z"
    assert event_line(event) == "2026-01-02T03:04:05Z pod prod/web: Failed: it ended: no such file"
    assert event_line({**event, "count": 3}).endswith(": no such file (x3)")


def test_warnings_are_told_as_they_come_and_repetitions_ever_less(capsys: pytest.CaptureFixture[str]) -> None:
    store = Store()
    made = store.create({**pod("web"), "metadata": {"name": "web", "namespace": "prod"}})
    recorder = EventRecorder(store, "kubelet")
    recorder.record(made, "Warning", "Unhealthy", "before anybody listens")
    with Narrator(store):
        recorder.record(made, "Normal", "Started", "Started container main")
        for _ in range(9):
            recorder.record(made, "Warning", "BackOff", "Back-off restarting failed container")
        recorder.record(made, "Warning", "Failed", "the last one")
        said = ""
        while "the last one" not in said:
            said += capsys.readouterr().out
    assert [line.partition(" ")[2] for line in said.splitlines()] == [
        "pod prod/web: Unhealthy: before anybody listens",
        *(
            f"pod prod/web: BackOff: Back-off restarting failed container{times}"
            for times in ("", " (x2)", " (x4)", " (x8)")
        ),
        "pod prod/web: Failed: the last one",
    ]
