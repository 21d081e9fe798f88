"""The table of Pods. The status is what a pod's containers say, where that tells more than its phase."""

from __future__ import annotations

from typing import Any, NamedTuple

from testbed.apiserver.tables.columns import AGE, NAME, NONE, Column, Layout, age, seconds_of, since, spec, status
from testbed.cluster.objects import JsonObject


class Summary(NamedTuple):
    """What a table says of a pod's containers."""

    ready: int
    total: int
    status: str
    restarts: int
    last_restart: str | None
    """When a container last ended and was started again."""


def summary(pod: JsonObject) -> Summary:
    """A pod in brief, as Kubernetes' printers have it: init containers, then containers, then whether it is deleted."""
    told = status(pod)
    sidecars = {
        container.get("name")
        for container in spec(pod).get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }
    tally = _Tally(len(spec(pod).get("containers") or ()) + len(sidecars), _reason(pod))
    initializing = tally.add_init_containers(pod, sidecars)
    if not initializing or _condition(told, "Initialized"):
        tally.add_containers(told)
    reason = tally.reason
    if pod["metadata"].get("deletionTimestamp"):
        if told.get("reason") == "NodeLost":
            reason = "Unknown"
        elif told.get("phase") not in ("Succeeded", "Failed"):
            reason = "Terminating"
    return Summary(tally.ready, tally.total, reason, tally.restarts, tally.last_restart)


class _Tally:
    """Sums up containers."""

    def __init__(self, total: int, reason: str) -> None:
        self.total, self.reason = total, reason
        self.ready = self.restarts = 0
        self.last_restart: str | None = None

    def add_init_containers(self, pod: JsonObject, sidecars: set[Any]) -> bool:
        """Whether the pod is still busy with them."""
        count = len(spec(pod).get("initContainers") or ())
        sidecar_restarts, sidecar_last = 0, None
        busy = False
        for index, container in enumerate(status(pod).get("initContainerStatuses") or ()):
            self._count_restarts(container)
            is_sidecar = container.get("name") in sidecars
            if is_sidecar:
                sidecar_restarts += container.get("restartCount") or 0
                sidecar_last = _later(sidecar_last, _ended_before(container))
            state = container.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting") or {}
            if ended is not None and ended.get("exitCode") == 0:
                continue
            if is_sidecar and container.get("started"):
                self.ready += bool(container.get("ready"))
                continue
            if ended is not None:
                self.reason = f"Init:{_end_text(ended)}"
            elif waiting.get("reason") not in (None, "", "PodInitializing"):
                self.reason = f"Init:{waiting['reason']}"
            else:
                self.reason = f"Init:{index}/{count}"
            busy = True
            break
        if not busy or _condition(status(pod), "Initialized"):  # what is past no longer counts
            self.restarts, self.last_restart = sidecar_restarts, sidecar_last
        return busy

    def add_containers(self, told: JsonObject) -> None:
        is_running = False
        for container in reversed(told.get("containerStatuses") or ()):
            self._count_restarts(container)
            state = container.get("state") or {}
            ended, waiting = state.get("terminated"), state.get("waiting") or {}
            if waiting.get("reason"):
                self.reason = waiting["reason"]
            elif ended is not None:
                self.reason = _end_text(ended)
            elif container.get("ready") and state.get("running") is not None:
                is_running = True
                self.ready += 1
        if self.reason == "Completed" and is_running:
            self.reason = "Running" if _condition(told, "Ready") else "NotReady"

    def _count_restarts(self, container: JsonObject) -> None:
        self.restarts += container.get("restartCount") or 0
        self.last_restart = _later(self.last_restart, _ended_before(container))


def _reason(pod: JsonObject) -> str:
    told = status(pod)
    for condition in told.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            return "SchedulingGated"
    return str(told.get("reason") or told.get("phase") or "Pending")


def _end_text(ended: JsonObject) -> str:
    if ended.get("reason"):
        return str(ended["reason"])
    return f"Signal:{ended['signal']}" if ended.get("signal") else f"ExitCode:{ended.get('exitCode', 0)}"


def _ended_before(container: JsonObject) -> str | None:
    ended = (container.get("lastState") or {}).get("terminated") or {}
    finished: str | None = ended.get("finishedAt")
    return finished


def _later(one: str | None, other: str | None) -> str | None:
    times = [time for time in (one, other) if seconds_of(time) is not None]
    return max(times, key=lambda time: seconds_of(time) or 0.0, default=None)


def _condition(told: JsonObject, name: str) -> bool:
    return any(c.get("type") == name and c.get("status") == "True" for c in told.get("conditions") or ())


def _cells(pod: JsonObject, now: float) -> list[Any]:
    told, brief = status(pod), summary(pod)
    restarts = str(brief.restarts)
    if brief.restarts and brief.last_restart:
        restarts += f" ({since(brief.last_restart, now)} ago)"
    addresses = told.get("podIPs") or [{"ip": told.get("podIP")}]
    gates = spec(pod).get("readinessGates") or ()
    met = sum(_condition(told, gate.get("conditionType", "")) for gate in gates)
    return [
        pod["metadata"]["name"],
        f"{brief.ready}/{brief.total}",
        brief.status,
        restarts,
        age(pod, now),
        addresses[0].get("ip") or NONE,
        spec(pod).get("nodeName") or NONE,
        told.get("nominatedNodeName") or NONE,
        f"{met}/{len(gates)}" if gates else NONE,
    ]


PODS = Layout(
    (
        NAME,
        Column("Ready", "How many of the pod's containers are ready."),
        Column("Status", "What the pod is doing, or why it is not."),
        Column("Restarts", "How often containers of the pod were started again, and when last."),
        AGE,
        Column("IP", "The pod's address.", wide=True),
        Column("Node", "Where the pod runs.", wide=True),
        Column("Nominated Node", "Where room is being made for the pod.", wide=True),
        Column("Readiness Gates", "How many further conditions of its readiness are met.", wide=True),
    ),
    _cells,
)
