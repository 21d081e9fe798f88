"""A component that keeps dying: it is started again, later each time, and at last left alone; each time it is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from testbed.cluster.assign import config_map
from testbed.cluster.identity import STATUS_NAME, STATUS_NAMESPACE
from testbed.cluster.kinds import EVENT
from testbed.cluster.objects import JsonObject
from testbed.cluster.store import Store
from testbed.network.api_process import ApiProcess
from testbed.network.supervisor import DIED, GIVEN_UP, RESTARTED, Supervisor, of_process

_LIMIT_S = 20.0


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module for ``python -m`` that counts its starts in a file and ends at once."""
    name = "dies_at_once"
    counted = f"open({str(tmp_path / 'starts')!r}, 'a').write('x')"
    (tmp_path / f"{name}.py").write_text(f"{counted}\nraise SystemExit('no such device')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return name


def told(store: Store, reason: str) -> list[JsonObject]:
    return [event for event in store.list(EVENT).items if event["reason"] == reason]


def test_a_component_that_keeps_dying_is_given_up_and_said_so(tmp_path: Path, module: str) -> None:
    store = Store()
    status = store.create(config_map(STATUS_NAMESPACE, STATUS_NAME, {}))
    process = ApiProcess("the thing", module, "http://127.0.0.1:1", tmp_path / "thing.log")
    supervisor = Supervisor(store, [of_process(process, STATUS_NAME)], (process,), first_wait_s=0.01)
    with store.watch(EVENT) as watch, supervisor:
        process.start()
        while not told(store, GIVEN_UP):
            assert watch.next(_LIMIT_S), "nothing more is told"
    (given_up,) = told(store, GIVEN_UP)
    assert given_up["type"] == "Warning"
    assert given_up["involvedObject"]["uid"] == status["metadata"]["uid"]
    assert "ended 6 times" in given_up["message"]
    assert str(tmp_path / "thing.log") in given_up["message"]
    assert (tmp_path / "starts").read_text() == "x" * 6
    assert (tmp_path / "thing.log").read_text() == "no such device\n" * 6
    (died,), (restarted,) = told(store, DIED), told(store, RESTARTED)
    assert (died["count"], restarted["count"]) == (6, 5)
    assert (died["type"], restarted["type"]) == ("Warning", "Normal")


def test_what_is_stopped_on_purpose_has_not_died(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stays.py").write_text("import signal\nprint('ready', flush=True)\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    store = Store()
    process = ApiProcess("the thing", "stays", "http://127.0.0.1:1", tmp_path / "thing.log")
    with Supervisor(store, [of_process(process, STATUS_NAME)], (process,)):
        for _ in range(3):
            process.start()
            process.wait_listening()
            assert not process.has_died
            process.stop()
            assert not process.has_died
    assert store.list(EVENT).items == []


def test_a_component_that_cannot_be_started_is_given_up_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "short.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    store = Store()
    folder = tmp_path / "logs"
    folder.mkdir()
    process = ApiProcess("the thing", "short", "http://127.0.0.1:1", folder / "thing.log")
    with store.watch(EVENT) as watch:
        process.start()
        (folder / "thing.log").unlink()
        folder.rmdir()  # no later start can write its log
        with Supervisor(store, [of_process(process, STATUS_NAME)], (process,), first_wait_s=0.01):
            while not told(store, GIVEN_UP):
                assert watch.next(_LIMIT_S), "nothing more is told"
    assert told(store, RESTARTED) == []
