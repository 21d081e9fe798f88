"""Which clusters this user has running: a few files each, so that other commands find them.

They stand in the user's own runtime directory: ``NAME.json`` (what is known of the cluster), ``NAME.kubeconfig``,
``NAME.sock`` (see :mod:`testbed.network.control`), and for one in the background ``NAME.log``.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from testbed.errors import RunError

NAME_PATTERN = re.compile(r"[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?")


class NameTaken(Exception):
    """A running cluster has the name already."""


@dataclass(frozen=True)
class Running:
    """A running cluster, or one that is being built (``init_pid`` is 0 then).

    ``supervisor_pid`` is the process outside the box, whose end is the box's end; ``started_ticks`` tells it from a
    later process with the same number (field 22 of /proc/PID/stat). ``init_pid`` is the box's PID 1 as seen from
    outside. ``started_s`` is its start, in seconds since the epoch.
    """

    name: str
    supervisor_pid: int
    started_ticks: int
    started_s: float
    init_pid: int = 0
    detached: bool = False

    @property
    def is_alive(self) -> bool:
        return _started_ticks(self.supervisor_pid) == self.started_ticks

    @property
    def is_ready(self) -> bool:
        return self.init_pid != 0

    @property
    def kubeconfig(self) -> Path:
        return directory() / f"{self.name}.kubeconfig"

    @property
    def control(self) -> Path:
        return directory() / f"{self.name}.sock"

    @property
    def log(self) -> Path:
        return directory() / f"{self.name}.log"


class Claim:
    """A name that this process has taken for the cluster it is about to build."""

    def __init__(self, running: Running) -> None:
        self.running = running

    def supervised_here(self, *, detached: bool) -> None:
        """From here on the calling process is the cluster's supervisor."""
        pid = os.getpid()
        self._note(replace(self.running, supervisor_pid=pid, started_ticks=_started_ticks(pid), detached=detached))

    def ready(self, init_pid: int) -> None:
        """The cluster is built, and can be entered."""
        self._note(replace(self.running, init_pid=init_pid))

    def release(self) -> None:
        """Forget the cluster. Its log stays: it says how the cluster ended."""
        with _locked():
            _forget(self.running)

    def _note(self, running: Running) -> None:
        self.running = running
        part = _file(running.name).with_suffix(".part")
        part.write_text(json.dumps(asdict(running)))
        part.replace(_file(running.name))


def directory() -> Path:
    """Where the files are: the user's own runtime directory."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / "testbed"
    return Path(tempfile.gettempdir()) / f"testbed-{os.getuid()}"


def claim(name: str) -> Claim:
    """Take a name, before anything is built. Raises NameTaken, and RunError when the directory is not the user's."""
    with _locked():
        if any(cluster.name == name for cluster in _clusters()):
            raise NameTaken(f"a cluster named {name} is running already")
        pid = os.getpid()
        taken = Claim(Running(name, pid, _started_ticks(pid), time.time()))
        taken.supervised_here(detached=False)
        return taken


def claim_free(wish: str) -> Claim:
    """Take ``wish``, or the first of ``wish-2``, ``wish-3`` ... that no running cluster has."""
    name, number = wish, 1
    while True:
        try:
            return claim(name)
        except NameTaken:
            number += 1
            name = f"{wish}-{number}"


def running_clusters() -> list[Running]:
    """Every cluster of this user that is alive, by name; files of dead ones are removed, but for their logs."""
    if not directory().is_dir():
        return []
    with _locked():
        return _clusters()


@dataclass(frozen=True)
class Ended:
    """A cluster that ended unexpectedly: its name, its log, and when it ended, in seconds since the epoch."""

    name: str
    log: Path
    ended_s: float


def ended_clusters() -> list[Ended]:
    """Every cluster in the background that ended unexpectedly, by name, until its log is removed."""
    if not directory().is_dir():
        return []
    with _locked():
        alive = {running.name for running in _clusters()}
        logs = [log for log in sorted(directory().glob("*.log")) if log.stem not in alive]
        return [Ended(log.stem, log, log.stat().st_mtime) for log in logs]


def _clusters() -> list[Running]:
    found = []
    for file in sorted(directory().glob("*.json"), key=lambda path: path.stem):
        try:
            running = Running(**json.loads(file.read_text()))
        except (ValueError, TypeError):
            file.unlink()  # damaged, or another version's
            continue
        if running.is_alive:
            found.append(running)
        else:
            _forget(running)
    return found


@contextmanager
def _locked() -> Iterator[None]:
    """Alone in the directory, among all processes of this user. Raises RunError when it is another user's."""
    folder = directory()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RunError(f"{folder} belongs to another user")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def find(name: str | None = None) -> Running:
    """The running cluster of a name, or the only one. Raises LookupError saying what is running, and what has ended."""
    clusters = running_clusters()
    names = ", ".join(cluster.name for cluster in clusters)
    if name is not None:
        clusters = [cluster for cluster in clusters if cluster.name == name]
        if not clusters:
            here = f"; there are: {names}" if names else ""
            raise LookupError(f"no cluster named {name} is running{here}{_ends_text(name)}")
    if not clusters:
        raise LookupError(f"no cluster is running; start one with: testbed up single_switch{_ends_text()}")
    if len(clusters) > 1:
        raise LookupError(f"several clusters are running: {names}; say which, or set KUBECONFIG")
    return clusters[0]


def _ends_text(name: str | None = None) -> str:
    """What to add about clusters that are looked for in vain because they have ended; with ``name`` about this one."""
    ends = [ended for ended in ended_clusters() if name in (None, ended.name)]
    return "".join(f"\n{ended.name} ended unexpectedly; its log says how: {ended.log}" for ended in ends)


def end(running: Running, timeout_s: float) -> bool:
    """Ask a cluster to end, and wait until it has. One that does not within ``timeout_s`` is killed: then False."""
    try:
        process = os.pidfd_open(running.supervisor_pid)
    except ProcessLookupError:
        return True
    try:
        if not running.is_alive:  # the number had been given to another process before the descriptor was opened
            return True
        poll = select.poll()
        poll.register(process, select.POLLIN)
        for number, wait_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, None)):
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(process, number)
            if poll.poll(None if wait_s is None else wait_s * 1000):
                return number == signal.SIGTERM
        return False
    finally:
        os.close(process)
        running_clusters()  # so that nothing of a killed one stays


def _file(name: str) -> Path:
    return directory() / f"{name}.json"


def _forget(running: Running) -> None:
    for path in (running.kubeconfig, running.control, _file(running.name)):
        path.unlink(missing_ok=True)


def _started_ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The command's name is in brackets and may contain anything; the state is the first field after it, and the start
    # time the 20th. One that has ended and is not waited for yet is there as a zombie.
    fields: list[Any] = re.sub(r"^.*\)", "", text, flags=re.DOTALL).split()
    return -1 if fields[0] == "Z" else int(fields[19])
