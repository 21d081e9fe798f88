"""The life of a pod's containers, as a kubelet decides it: what to start now, when to look again. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/,
https://kubernetes.io/docs/concepts/workloads/pods/init-containers/ and .../sidecar-containers/
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from testbed.cluster.objects import JsonObject

Role = Literal["init", "sidecar", "main", "ephemeral"]
Phase = Literal["Pending", "Running", "Succeeded", "Failed"]

# Kubernetes waits 10 s before the second restart, twice as long before each further one, and 5 min at most. Programs
# here start in a millisecond, so the first wait is shorter.
BACKOFF_BASE_S = 1.0
_BACKOFF_MAX_S = 300.0
_BACKOFF_RESET_S = 600.0  # a container that has run for so long begins anew

CONTAINER_CREATING, POD_INITIALIZING = "ContainerCreating", "PodInitializing"
CRASH_LOOP = "CrashLoopBackOff"


@dataclass(frozen=True)
class Waiting:
    """A container that does not run yet, or not again."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """A container that runs; ``started_at`` in seconds since the epoch."""

    started_at: float


@dataclass(frozen=True)
class Terminated:
    """A container that has ended; times in seconds since the epoch."""

    exit_code: int
    started_at: float
    finished_at: float
    reason: str = ""
    message: str = ""
    signal: int = 0


@dataclass
class Backoff:
    """How long to wait before the next restart: not at all, then ``base_s``, then twice as long each time."""

    base_s: float = BACKOFF_BASE_S
    delay_s: float = 0.0
    used: bool = False

    def next_delay_s(self, ran_s: float) -> float:
        """The delay before the restart of a container that has run so long."""
        if ran_s >= _BACKOFF_RESET_S:
            self.delay_s, self.used = 0.0, False
        if not self.used:
            self.used = True
            return 0.0
        self.delay_s = min(max(self.base_s, 2 * self.delay_s), _BACKOFF_MAX_S)
        return self.delay_s


@dataclass
class ContainerRun:
    """One container of a pod and how it stands."""

    name: str
    role: Role
    spec: JsonObject
    backoff: Backoff = field(default_factory=Backoff)
    state: Waiting | Running | Terminated = Waiting(CONTAINER_CREATING)
    last: Terminated | None = None
    runs: int = 0
    """How often it was started."""
    pid: int | None = None
    started: bool = False
    """It runs, and its startup probe has passed."""
    ready: bool = False
    due: float | None = 0.0
    """When it is to be started (of a clock that never goes back); None: not again."""
    under_way: bool = False
    """It was asked to start, and has not been heard of yet."""

    @property
    def restarts(self) -> int:
        return max(0, self.runs - 1)

    @property
    def is_done(self) -> bool:
        """It has ended and will not be started again."""
        return isinstance(self.state, Terminated) and self.due is None

    def begin(self) -> None:
        """It is being started."""
        self.under_way, self.due = True, None

    def is_running(self, pid: int, now_s: float) -> None:
        """It has been started, at ``now_s`` since the epoch."""
        self.under_way, self.pid = False, pid
        self.runs += 1
        if isinstance(self.state, Terminated):
            self.last = self.state
        self.state = Running(now_s)
        self.started = "startupProbe" not in self.spec
        self.ready = self.started and "readinessProbe" not in self.spec

    def cannot_start(self, reason: str, message: str, retry_at: float | None) -> None:
        """It lacks something; it is tried again at ``retry_at``, or when somebody sets ``due``."""
        self.under_way, self.pid, self.started, self.ready = False, None, False, False
        self.state = Waiting(reason, message)
        self.due = retry_at

    def has_ended(self, ended: Terminated, policy: str, now: float, who: str) -> None:
        """It has ended; ``policy`` is the pod's restartPolicy, ``who`` names the pod in messages."""
        self.under_way, self.pid, self.started, self.ready = False, None, False, False
        self.state = ended
        self.due = None
        if not self._is_restarted(ended.exit_code, policy):
            return
        delay_s = self.backoff.next_delay_s(ended.finished_at - ended.started_at)
        self.due = now + delay_s
        if delay_s > 0:
            self.last = ended
            message = f"back-off {_duration(delay_s)} restarting failed container={self.name} pod={who}"
            self.state = Waiting(CRASH_LOOP, message)

    def _is_restarted(self, exit_code: int, policy: str) -> bool:
        if self.role == "sidecar":
            return True
        if self.role == "init":
            return exit_code != 0 and policy != "Never"
        if self.role == "ephemeral":
            return False
        return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


@dataclass(frozen=True)
class Steps:
    """What to do for a pod now: containers to start and (sidecars) to end, and when to look again at the latest."""

    start: tuple[ContainerRun, ...] = ()
    end: tuple[ContainerRun, ...] = ()
    look_again: float | None = None


def container_runs(spec: JsonObject, backoff_base_s: float = BACKOFF_BASE_S) -> list[ContainerRun]:
    """The containers of a pod's ``spec``, none started, in the order in which they are."""
    runs: list[ContainerRun] = []
    for container in spec.get("initContainers") or ():
        role: Role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        runs.append(ContainerRun(container["name"], role, container, Backoff(backoff_base_s)))
    waiting = Waiting(POD_INITIALIZING if runs else CONTAINER_CREATING)
    for container in spec.get("containers") or ():
        runs.append(ContainerRun(container["name"], "main", container, Backoff(backoff_base_s), waiting))
    return [*runs, *ephemeral_runs(spec, {run.name for run in runs})]


def ephemeral_runs(spec: JsonObject, known: Container[str]) -> list[ContainerRun]:
    """The ephemeral containers (those of ``kubectl debug``) of a pod's ``spec`` whose names are not known yet."""
    added = [container for container in spec.get("ephemeralContainers") or () if container["name"] not in known]
    return [ContainerRun(container["name"], "ephemeral", container) for container in added]


def next_steps(runs: Sequence[ContainerRun], now: float) -> Steps:
    """What follows for a pod whose namespaces are there. Init containers one after the other, then all others."""
    start: list[ContainerRun] = []
    times: list[float] = []
    for run in _allowed(runs):
        if run.under_way or isinstance(run.state, Running) or run.due is None:
            continue
        if run.due <= now:
            start.append(run)
        else:
            times.append(run.due)
    end: list[ContainerRun] = []
    if all(run.is_done for run in runs if run.role == "main"):
        # Sidecars serve the others, and end after them.
        start = [run for run in start if run.role != "sidecar"]
        end = [run for run in runs if run.role == "sidecar" and isinstance(run.state, Running)]
    return Steps(tuple(start), tuple(end), min(times, default=None))


def _allowed(runs: Sequence[ContainerRun]) -> Iterator[ContainerRun]:
    """The containers that may run now. Ephemeral ones wait for nobody: one may want to see why another does not end."""
    yield from (run for run in runs if run.role == "ephemeral")
    for run in runs:
        if run.role == "ephemeral":
            continue
        yield run
        if run.role == "init" and not _has_succeeded(run):
            return
        if run.role == "sidecar" and not run.started and not _mains_begun(runs):
            return


def _mains_begun(runs: Sequence[ContainerRun]) -> bool:
    return any(run.runs for run in runs if run.role == "main")


def _has_succeeded(run: ContainerRun) -> bool:
    return isinstance(run.state, Terminated) and run.state.exit_code == 0


def is_initialized(runs: Sequence[ContainerRun]) -> bool:
    """Whether every init container has done its work, and every sidecar has begun its."""
    return all(
        _has_succeeded(run) if run.role == "init" else run.started or _mains_begun(runs)
        for run in runs
        if run.role in ("init", "sidecar")
    )


def phase_of(runs: Sequence[ContainerRun], policy: str) -> Phase:
    """The pod's phase, as Kubernetes derives it from its containers and restartPolicy."""
    if any(run.role == "init" and run.is_done and not _has_succeeded(run) for run in runs):
        return "Failed"
    mains = [run for run in runs if run.role == "main"]
    if not is_initialized(runs) or any(not run.runs and run.last is None for run in mains):
        return "Pending"
    if not all(run.is_done for run in mains):
        return "Running"
    if all(_has_succeeded(run) for run in mains):
        return "Succeeded"
    return "Failed" if policy != "Always" else "Running"


def terminated(status: int, started_at: float, finished_at: float, *, out_of_memory: bool = False) -> Terminated:
    """How a process ended: ``status`` is its exit status, or the negative number of the signal that ended it.

    ``out_of_memory``: the kernel has killed a process of the container because of its limit.
    """
    reason = "OOMKilled" if out_of_memory else "Error" if status else "Completed"
    if status < 0:
        return Terminated(128 - status, started_at, finished_at, reason, signal=-status)
    return Terminated(status, started_at, finished_at, reason)


def _duration(seconds: float) -> str:
    """As Go prints durations: 10s, 1m20s."""
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:g}s" if minutes else f"{rest:g}s"
