"""The processes of pods: each pod's namespaces, the programs in them, their output and their ends.

A pod's namespaces (network, host name, files, IPC) are kept by a process that does nothing else, as Kubernetes' pause
container does; its containers' programs run in them and share localhost. Everything is started by one parent process
(:mod:`testbed.network.pods.parent`), which also says what has ended: nothing is polled.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from testbed.network import linux
from testbed.network.place import Place, namespace_command
from testbed.network.pods.cgroups import Cgroups
from testbed.network.pods.console import Console
from testbed.network.pods.joining import joining
from testbed.network.pods.spawner import Spawner

LOGS = Path("/run/containers")
FOLDERS = Path("/run/pods")
"""A folder for each pod, by the name of its network namespace: what it writes, and its volumes."""

# Of all logs together: a program that writes without end must not take the machine's memory.
_LOGS_SIZE = "256m"

# A file's name may have 255 bytes; a namespace's, a pod's and a container's have 379 together.
_LONGEST_LOG_NAME = 200

# How long programs may take to end after SIGTERM when the whole cluster ends: nothing here has state to save.
_END_S = 2.0

Stdin = Literal["", "always", "once"]
"""Whether a program has standard input: not, for as long as it runs, or for the first client that is attached."""

# The process, or None and why it could not be started.
Started = Callable[["ContainerProcess | None", str], None]


class ContainerProcess:
    """A process in a pod; what of :class:`subprocess.Popen` is needed of one that another process has started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._over = threading.Event()

    def poll(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status. Raises subprocess.TimeoutExpired."""
        if not self._over.wait(timeout):
            raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
        assert self.returncode is not None
        return self.returncode

    def ended(self, status: int) -> None:
        """It has ended."""
        self.returncode = status
        self._over.set()


@dataclass(frozen=True)
class Program:
    """What a container runs. ``argv`` is empty for one that only waits; ``mounts`` are (source, target, read only);
    ``groups`` are the entrances of its cgroups."""

    argv: Sequence[str]
    environment: Mapping[str, str]
    directory: str = "/"
    mounts: Sequence[tuple[str, str, bool]] = ()
    stdin: Stdin = ""
    terminal: bool = False
    groups: Sequence[str] = ()
    target: str = ""
    """The container whose processes it sees, instead of its own alone."""


@dataclass
class _Container:
    process: ContainerProcess
    environment: Mapping[str, str]
    place: Place
    ended: Callable[[int], None] = field(repr=False)
    console: Console | None = None
    groups: Sequence[str] = ()


class Containers:
    """All of a cluster's. Callbacks come from one thread, in the order in which things happened."""

    def __init__(self) -> None:
        self._containers: dict[tuple[str, str], _Container] = {}
        self._heard: dict[int, Callable[[int], None]] = {}  # by process id, who hears of its end
        self._sandboxes: dict[str, ContainerProcess] = {}
        self._spawner = Spawner(self._have_ended, self._parent_died)
        self.cgroups = Cgroups()
        self.lost: Callable[[], None] = lambda: None
        """Called when the parent of all processes has died; every process has been ended then."""

    def start(self) -> None:
        """Start the processes' parent, from a thread that outlives it. Raises OSError."""
        LOGS.mkdir(exist_ok=True)
        if not LOGS.is_mount():
            linux.mount("tmpfs", str(LOGS), "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, f"mode=755,size={_LOGS_SIZE}")
        FOLDERS.mkdir(exist_ok=True)
        self._spawner.start()

    @property
    def parent_pid(self) -> int | None:
        """The process id of the processes' parent."""
        return self._spawner.pid

    # -- what others ask of running containers -------------------------------------------------------------------

    @staticmethod
    def log(key: str, container: str, previous: bool = False) -> Path:
        """The file with a container's output, or that of its run before this one; ``key`` is ``namespace/pod``.

        The file of a run is complete when :meth:`is_running` is no longer true.
        """
        name = f"{key.replace('/', '_')}_{container}"
        if len(name) > _LONGEST_LOG_NAME:
            name = f"{name[:_LONGEST_LOG_NAME]}-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
        return LOGS / f"{name}{'.previous' if previous else ''}.log"

    def is_running(self, key: str, container: str) -> bool:
        """Whether the container's process runs."""
        known = self._containers.get((key, container))
        return known is not None and known.process.returncode is None

    def process(self, key: str, container: str) -> ContainerProcess:
        """A container's process, of its newest run. Raises KeyError when there was none."""
        return self._containers[key, container].process

    def command(self, key: str, container: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs ``argv`` where the container's program runs, with its files and within its limits.

        Raises KeyError when there was none.
        """
        known = self._containers[key, container]
        return joining(known.groups, namespace_command(f"/proc/{known.process.pid}/ns", argv, processes=True))

    def console(self, key: str, container: str) -> Console | None:
        """The standard input and terminal of a container's program, if it has any. Raises KeyError."""
        return self._containers[key, container].console

    def environment(self, key: str, container: str) -> dict[str, str]:
        """The variables of a container's program. Raises KeyError when there was none."""
        return dict(self._containers[key, container].environment)

    def exited(self) -> list[str]:
        """Containers whose process has ended with an error, each with its status and last line of output."""
        texts = []
        for (key, container), known in list(self._containers.items()):
            if known.process.poll():
                with suppress(FileNotFoundError):
                    lines = self.log(key, container).read_text(errors="replace").splitlines()
                    last = lines[-1] if lines else "no output"
                    texts.append(f"{key}/{container}: status {known.process.returncode}: {last}")
        return texts

    # -- for the kubelet -----------------------------------------------------------------------------------------

    def make_sandbox(self, key: str, place: Place, started: Started, ended: Callable[[int], None]) -> None:
        """Make a pod's namespaces; ``ended`` hears when the process that keeps them has ended."""

        def answered(pid: int | None, error: str) -> None:
            if pid is None:
                started(None, error)
                return
            process = self._sandboxes[key] = ContainerProcess(pid)
            place.keep(f"/proc/{pid}/ns")
            self._heard[pid] = lambda status: self._sandbox_ended(key, process, status, ended)
            started(process, "")

        self._spawner.sandbox(
            {
                "name": place.state_name,
                "network": place.namespace,
                "hostname": place.hostname,
                "files": [*place.files.items()],
                "processes": place.processes,
            },
            answered,
        )

    def run(
        self,
        key: str,
        name: str,
        run: int,
        place: Place,
        program: Program,
        started: Started,
        ended: Callable[[int], None],
    ) -> None:
        """Start a container for the ``run``-th time. Its output goes to a new log; the last run's is kept."""
        log = self.log(key, name)
        with suppress(FileNotFoundError):
            log.replace(self.log(key, name, previous=True))
        console = None
        if program.stdin or program.terminal:
            try:
                console = Console(
                    log, has_input=bool(program.stdin), terminal=program.terminal, once=program.stdin == "once"
                )
            except OSError as error:
                started(None, str(error))
                return

        def answered(pid: int | None, error: str) -> None:
            if console is not None:
                console.started()
            if pid is None:
                if console is not None:
                    console.close()
                started(None, error)
                return
            process = ContainerProcess(pid)
            self._containers[key, name] = _Container(
                process, program.environment, place, ended, console, program.groups
            )
            self._heard[pid] = lambda status: self._container_ended(process, status, ended, console)
            started(process, "")

        self._spawner.run(
            {
                "sandbox": place.state_name,
                "argv": list(program.argv),
                "environment": dict(program.environment),
                "directory": program.directory,
                "log": str(log),
                "mounts": [list(mount) for mount in program.mounts],
                "files": [*place.files.items()],
                "layer": f"{name}-{run}",
                "processes": place.processes,
                "console": console.path if console is not None else "",
                "terminal": program.terminal,
                "target": self._running_pid(key, program.target),
                "groups": list(program.groups),
            },
            answered,
        )

    def _running_pid(self, key: str, container: str) -> int | None:
        return self._containers[key, container].process.pid if self.is_running(key, container) else None

    def execute(
        self, key: str, name: str, argv: Sequence[str], output: Path, started: Started, ended: Callable[[int], None]
    ) -> None:
        """Run a program beside a container's own. Its output goes to ``output``."""
        known = self._containers.get((key, name))
        if known is None or known.process.returncode is not None:
            started(None, "the container does not run")
            return

        def answered(pid: int | None, error: str) -> None:
            if pid is None:
                started(None, error)
                return
            process = ContainerProcess(pid)
            self._heard[pid] = lambda status: self._container_ended(process, status, ended)
            started(process, "")

        self._spawner.run(
            {
                "sandbox": known.place.state_name,
                "like": known.process.pid,
                "argv": list(argv),
                "environment": dict(known.environment),
                "log": str(output),
                "groups": list(known.groups),
            },
            answered,
        )

    def signal(self, processes: Sequence[ContainerProcess], number: int, *, group: bool = False) -> None:
        """Send a signal to processes, or to all that they have started; those that have ended get none."""
        self._spawner.signal([process.pid for process in processes if process.returncode is None], number, group=group)

    def forget(self, key: str, names: Sequence[str]) -> None:
        """A pod has ended: its containers' names, and what they have written, are nobody's now."""
        self._sandboxes.pop(key, None)
        for name in names:
            self._containers.pop((key, name), None)
            for previous in (False, True):
                self.log(key, name, previous).unlink(missing_ok=True)

    def revive(self) -> None:
        """Start the parent again after it has died. Raises OSError."""
        self._spawner.start()

    def stop(self) -> None:
        """End every container (SIGTERM, then SIGKILL after a grace period), all pods' namespaces, and the parent."""
        running = [known.process for known in list(self._containers.values()) if known.process.returncode is None]
        self.signal(running, signal.SIGTERM)
        deadline = time.monotonic() + _END_S
        for process in filter(_heeds_termination, running):
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        left = [process for process in running if process.returncode is None]
        self.signal(left, signal.SIGKILL, group=True)
        self.signal(list(self._sandboxes.values()), signal.SIGKILL)
        for process in left:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)
        self._spawner.stop()
        self.cgroups.close()

    # -- what happens --------------------------------------------------------------------------------------------

    def _have_ended(self, ended: Sequence[tuple[int, int]]) -> None:
        for pid, status in ended:
            if (heard := self._heard.pop(pid, None)) is not None:
                heard(status)

    def _sandbox_ended(self, key: str, process: ContainerProcess, status: int, ended: Callable[[int], None]) -> None:
        if self._sandboxes.get(key) is process:
            del self._sandboxes[key]
        self._container_ended(process, status, ended)

    @staticmethod
    def _container_ended(
        process: ContainerProcess, status: int, ended: Callable[[int], None], console: Console | None = None
    ) -> None:
        if console is not None:
            console.close()
        process.ended(status)
        ended(status)

    def _parent_died(self) -> None:
        """Its children go on without anybody who would notice their end; so they end now."""
        for pid in list(self._heard):
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        self._have_ended([(pid, -signal.SIGKILL) for pid in list(self._heard)])
        self.lost()


def _heeds_termination(process: ContainerProcess) -> bool:
    """Whether SIGTERM reaches a container's first program: the kernel keeps from PID 1 what it has no handler for."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return True
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigCgt:", "SigBlk:"))]
    return any(mask >> (signal.SIGTERM - 1) & 1 for mask in masks)
