"""Names of running clusters: one cluster a name, nothing left of dead ones, and the way they are ended."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.errors import RunError
from testbed.network.control import Control, Refused, ask, listen
from testbed.network.registry import (
    NAME_PATTERN,
    NameTaken,
    Running,
    claim,
    claim_free,
    directory,
    end,
    ended_clusters,
    find,
    running_clusters,
)

# A process that claims a name and waits; what it does on SIGTERM is the first argument.
_HOLDER = """
import signal, sys
from testbed.network.registry import claim
if sys.argv[1] == "stays":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = claim(sys.argv[2])
held.running.kubeconfig.touch()
held.running.log.write_text("last words")
held.ready(1)
print("held", flush=True)
while True:
    signal.pause()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def holders() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def hold(holders: list[subprocess.Popen[str]], how: str, name: str) -> subprocess.Popen[str]:
    """Another process that has claimed a name."""
    process = subprocess.Popen([sys.executable, "-c", _HOLDER, how, name], stdout=subprocess.PIPE, text=True)
    holders.append(process)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_name_is_taken_once_and_free_again_when_its_process_has_died(
    holders: list[subprocess.Popen[str]],
) -> None:
    holder = hold(holders, "ends", "lab")
    with pytest.raises(NameTaken, match="a cluster named lab is running already"):
        claim("lab")
    second = claim_free("lab")
    assert second.running.name == "lab-2"
    assert [cluster.name for cluster in running_clusters()] == ["lab", "lab-2"]
    with pytest.raises(LookupError, match="several clusters are running: lab, lab-2; say which, or set KUBECONFIG"):
        find()
    holder.kill()
    holder.wait()
    assert [cluster.name for cluster in running_clusters()] == ["lab-2"]
    assert sorted(path.name for path in directory().iterdir()) == ["lab-2.json", "lab.log"]
    log = directory() / "lab.log"
    assert [(ended.name, ended.log) for ended in ended_clusters()] == [("lab", log)]
    with pytest.raises(LookupError, match=f"there are: lab-2\nlab ended unexpectedly; its log says how: {log}"):
        find("lab")
    assert claim("lab").running.supervisor_pid == os.getpid()
    assert ended_clusters() == []


def test_a_process_with_the_number_of_a_dead_one_is_not_taken_for_it() -> None:
    held = claim("lab")
    file = directory() / "lab.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "started_ticks": held.running.started_ticks - 1}))
    assert running_clusters() == []
    assert not file.exists()


def test_files_that_are_damaged_or_another_versions_are_no_clusters() -> None:
    claim("lab").release()
    (directory() / "half.json").write_text('{"name": "ha')
    (directory() / "old.json").write_text('{"name": "old", "places": {}}')
    assert running_clusters() == []
    assert list(directory().iterdir()) == []


def test_only_its_owner_may_look_into_the_directory() -> None:
    claim("lab")
    assert stat.S_IMODE(directory().stat().st_mode) == 0o700


def test_a_directory_of_another_user_is_not_used(runtime: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a directory away")
    (runtime / "testbed").mkdir()
    os.chown(runtime / "testbed", 65534, 65534)
    with pytest.raises(RunError, match="belongs to another user"):
        claim("lab")


def test_nothing_runs_where_nothing_was_started() -> None:
    assert running_clusters() == []
    assert not directory().exists()
    with pytest.raises(LookupError, match="no cluster is running; start one with"):
        find()


def test_ending_waits_for_the_end(holders: list[subprocess.Popen[str]]) -> None:
    hold(holders, "ends", "lab")
    assert end(find("lab"), timeout_s=20)
    assert running_clusters() == []
    with pytest.raises(LookupError, match="no cluster named lab is running"):
        find("lab")


def test_what_does_not_end_is_killed_and_forgotten(holders: list[subprocess.Popen[str]]) -> None:
    holder = hold(holders, "stays", "lab")
    assert not end(find("lab"), timeout_s=0.1)
    assert holder.wait() == -9
    assert [path.name for path in directory().iterdir()] == ["lab.log"]


def test_ending_one_that_has_ended_is_no_error(holders: list[subprocess.Popen[str]]) -> None:
    holder = hold(holders, "ends", "lab")
    running = find("lab")
    holder.kill()
    holder.wait()
    assert end(running, timeout_s=1)


@pytest.mark.parametrize("name", ["lab", "a", "fat_tree-2", "v1.2", "x" * 63])
def test_names(name: str) -> None:
    assert NAME_PATTERN.fullmatch(name)


@pytest.mark.parametrize("name", ["", "Lab", "../x", "a/b", "-a", "a-", ".hidden", "a\n", "x" * 64])
def test_what_is_no_name(name: str) -> None:
    assert not NAME_PATTERN.fullmatch(name)


def test_a_cluster_answers_questions_and_survives_what_is_none(runtime: Path) -> None:
    path = runtime / "x.sock"

    def refuse(_: object) -> dict[str, str]:
        raise Refused("there is no wep")

    answers = {"echo": lambda question: {"said": question["words"]}, "refuse": refuse, "fail": lambda _: 1 / 0}
    with Control(listen(path), answers):  # type: ignore[dict-item]
        for nonsense in (b"", b"\n", b"{\n", b"[]\n", b'{"question": 3}\n', b"\xff\xfe\n"):
            with socket.socket(socket.AF_UNIX) as asker:
                asker.connect(str(path))
                asker.sendall(nonsense)
        assert ask(path, "echo", words="x" * 200_000) == {"said": "x" * 200_000}
        with pytest.raises(Refused, match="there is no wep"):
            ask(path, "refuse")
        with pytest.raises(Refused, match="ZeroDivisionError"):
            ask(path, "fail")
        with pytest.raises(Refused, match="KeyError"):
            ask(path, "dance")
    with pytest.raises(OSError, match="refused"):
        ask(path, "echo", words="")


def test_a_path_that_is_too_long_for_a_socket_is_an_error_that_names_it(runtime: Path) -> None:
    with pytest.raises(RunError, match="too long"):
        listen(runtime / ("x" * 200))


def test_what_is_known_of_a_cluster_comes_back_as_it_was() -> None:
    held = claim("lab")
    held.ready(4711)
    (running,) = running_clusters()
    assert running == held.running
    assert isinstance(running, Running)
    assert running.is_ready
