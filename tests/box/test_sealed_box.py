"""The sealed box as its user meets it: the real command, killed, interrupted, doubled, and watched from outside."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.box.harness import ORDINARY_UID, PROJECT, USERS, as_user

pytestmark = pytest.mark.box

MARK = "TESTBED_TEST_RUN"
SMOKE = "experiments/smoke.yaml"
COMMAND = Path(sys.executable).with_name("testbed")
KINDS = ("net", "pid", "mnt", "user")
# The issue's own deadline for a killed run to be gone.
GONE_S = 5.0


@dataclass
class Run:
    """A running ``testbed run``; every process it starts carries the mark in its environment."""

    process: subprocess.Popen[str]
    mark: str
    folder: Path

    def wait_for(self, text: str, timeout_s: float = 60) -> str:
        """Read its progress until a line contains ``text``; returns what was read."""
        assert self.process.stderr is not None
        seen, deadline = "", time.monotonic() + timeout_s
        while text not in seen:
            left = deadline - time.monotonic()
            assert left > 0 and self.process.poll() is None, f"waiting for {text!r}:\n{seen}"
            if select.select([self.process.stderr], [], [], left)[0]:
                seen += self.process.stderr.readline()
        return seen

    def supervisor(self) -> int:
        """The process the user started: under a changed user it is the last of the exec chain, with the same id."""
        return self.process.pid


@pytest.fixture
def start() -> Iterator[Callable[..., Run]]:
    """Starts runs; whatever a failing test leaves running is ended."""
    runs: list[Run] = []
    # Not pytest's own folder: that one is closed to other users, and each pytest that starts closes it again.
    folders = Path(tempfile.mkdtemp(prefix="testbed-test-"))
    folders.chmod(0o777)

    def begin(user: str, *options: str) -> Run:
        folder = folders / f"results-{len(runs)}"
        mark = uuid.uuid4().hex
        argv = [str(COMMAND), "run", SMOKE, "-o", str(folder), *options]
        process = subprocess.Popen(
            as_user(user, argv),
            cwd=PROJECT,
            env={**os.environ, MARK: mark, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        runs.append(Run(process, mark, folder))
        return runs[-1]

    yield begin
    for run in runs:
        for pid in _processes(run.mark):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        run.process.wait(10)
        assert run.process.stderr is not None
        run.process.stderr.close()
    shutil.rmtree(folders)


def _processes(mark: str) -> list[int]:
    """Every process of the machine that carries a run's mark and has not ended."""
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={mark}".encode() in (directory / "environ").read_bytes():
                found.append(int(directory.name))
    return found


def _namespaces_of(directory: Path, started_before: float = float("inf")) -> set[str]:
    """The namespaces a process is in, by the kernel's names for them, if it is old enough (s since boot)."""
    found = set[str]()
    with suppress(OSError):
        # Field 22 of /proc/PID/stat; the command's name before it is in brackets and may hold anything.
        started_ticks = int((directory / "stat").read_text().rpartition(")")[2].split()[19])
        if started_ticks / os.sysconf("SC_CLK_TCK") > started_before:
            return found
    for kind in KINDS:
        with suppress(OSError):
            found.add(str((directory / "ns" / kind).readlink()))
    return found


def _namespaces(mark: str) -> set[str]:
    """The namespaces of a run's processes that are not the test's own."""
    found = set[str]().union(*(_namespaces_of(Path(f"/proc/{pid}")) for pid in _processes(mark)))
    return found - _namespaces_of(Path("/proc/self"))


def _inhabited(namespaces: set[str], killed_at: float) -> set[str]:
    """Which of the namespaces some process from before the kill is still in (the kernel uses their names again)."""
    processes = Path("/proc").glob("[0-9]*")
    return namespaces & set[str]().union(*(_namespaces_of(process, killed_at) for process in processes))


def _machine() -> dict[str, str]:
    """The machine's own network and mounts, as text."""

    def output(*argv: str) -> str:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10).stdout

    return {
        "addresses": output("ip", "-o", "address"),
        "links": output("ip", "-o", "link"),
        "routes": output("ip", "route", "show", "table", "all"),
        "namespaces": output("ip", "netns", "list"),
        "mounts": Path("/proc/self/mounts").read_text(),
        "ip_forward": Path("/proc/sys/net/ipv4/ip_forward").read_text(),
        "open_files": Path("/proc/sys/fs/nr_open").read_text() + Path("/proc/sys/net/core/somaxconn").read_text(),
    }


# While namespaces are made, daemons started, flows pushed, and in the middle of measuring.
MOMENTS = ("build: started", "next: Open vSwitch", "next: flows", "measuring main: 8/")


@pytest.mark.parametrize(("user", "moment"), [(user, moment) for user in USERS for moment in MOMENTS])
def test_nothing_is_left_five_seconds_after_kill_9(start: Callable[..., Run], user: str, moment: str) -> None:
    before = _machine()
    run = start(user)
    run.wait_for(moment)
    namespaces = _namespaces(run.mark)
    assert len(_processes(run.mark)) > 1
    assert namespaces, "the run was sealed when it was killed"
    killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
    os.kill(run.supervisor(), signal.SIGKILL)
    deadline = time.monotonic() + GONE_S
    while any(left := (_processes(run.mark), _inhabited(namespaces, killed_at))):
        assert time.monotonic() < deadline, f"left: {left}"
        run.process.poll()
    assert _machine() == before


@pytest.mark.parametrize("user", USERS)
def test_ctrl_c_keeps_the_samples_and_says_partial(start: Callable[..., Run], user: str) -> None:
    run = start(user)
    run.wait_for("measuring main: 8/")
    run.process.send_signal(signal.SIGINT)
    _, progress = run.process.communicate(timeout=60)
    assert run.process.returncode == 130, progress
    assert "Traceback" not in progress
    assert json.loads((run.folder / "run.json").read_text())["status"] == "partial"
    import testbed

    samples = testbed.load(run.folder).samples
    assert len(samples) > 0
    assert (run.folder / "report.html").is_file()
    assert _processes(run.mark) == []


def test_two_runs_at_once_and_the_machine_is_untouched(start: Callable[..., Run]) -> None:
    before = _machine()
    first, second = (start(user, "--smoke") for user in (USERS[0], USERS[-1]))
    for run in (first, second):
        _, progress = run.process.communicate(timeout=120)
        assert run.process.returncode == 0, progress
        assert (run.folder / "report.html").is_file()
    assert _machine() == before
    if USERS[-1] == "ordinary" and os.geteuid() == 0:
        assert {path.stat().st_uid for path in second.folder.rglob("*")} == {ORDINARY_UID}
