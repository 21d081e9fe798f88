"""A pod's ``status`` as a kubelet writes it, from how its containers stand. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from testbed.cluster.objects import JsonObject
from testbed.cluster.timestamps import timestamp
from testbed.network.pods.lifecycle import (
    ContainerRun,
    Running,
    Terminated,
    Waiting,
    is_initialized,
    phase_of,
)

_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")


def pod_status(
    pod: JsonObject, runs: Sequence[ContainerRun], *, start_s: float, now_s: float, ready: bool
) -> JsonObject:
    """What of a pod's status the kubelet decides, as a patch; addresses are the scheduler's and stay as they are.

    ``ready``: the pod's namespaces are there. Times in seconds since the epoch.
    """
    policy = pod["spec"].get("restartPolicy") or "Always"
    phase = phase_of(runs, policy)
    return {
        "phase": phase,
        "reason": None,
        "message": None,
        "startTime": timestamp(start_s),
        "qosClass": qos_class(pod["spec"]),
        "conditions": _conditions(pod, runs, phase, ready, timestamp(now_s)),
        "initContainerStatuses": [_container_status(pod, run) for run in runs if run.role in ("init", "sidecar")]
        or None,
        "containerStatuses": [_container_status(pod, run) for run in runs if run.role == "main"],
        "ephemeralContainerStatuses": [_container_status(pod, run) for run in runs if run.role == "ephemeral"] or None,
    }


def failed_status(pod: JsonObject, reason: str, message: str, now_s: float) -> JsonObject:
    """The status of a pod that cannot be run at all."""
    return {
        "phase": "Failed",
        "reason": reason,
        "message": message,
        "conditions": _conditions(pod, (), "Failed", False, timestamp(now_s)),
    }


def container_id(pod: JsonObject, run: ContainerRun) -> str:
    """A name of one run of a container, different for every run."""
    text = f"{pod['metadata'].get('uid', '')}/{run.name}/{run.runs}"
    return f"testbed://{hashlib.sha256(text.encode()).hexdigest()}"


def qos_class(spec: JsonObject) -> str:
    """Guaranteed, Burstable or BestEffort
    (https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/)."""
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    asked = [container.get("resources") or {} for container in containers]
    if not any(one.get("requests") or one.get("limits") for one in asked):
        return "BestEffort"
    for one in asked:
        limits = one.get("limits") or {}
        requests = {**limits, **(one.get("requests") or {})}
        if any(name not in limits or limits[name] != requests[name] for name in ("cpu", "memory")):
            return "Burstable"
    return "Guaranteed"


def _container_status(pod: JsonObject, run: ContainerRun) -> JsonObject:
    image = str(run.spec.get("image") or "")
    status: JsonObject = {
        "name": run.name,
        "state": _state(run.state),
        "lastState": {"terminated": _terminated(run.last)} if run.last is not None else {},
        # A debugging container never is: nobody is led to it.
        "ready": (run.ready and run.role != "ephemeral")
        or (run.role == "init" and run.is_done and _exit_code(run) == 0),
        "restartCount": run.restarts,
        "image": image,
        "imageID": f"catalogue://{image}" if run.runs else "",
        "started": run.started,
    }
    if run.runs:
        status["containerID"] = container_id(pod, run)
    return status


def _exit_code(run: ContainerRun) -> int | None:
    return run.state.exit_code if isinstance(run.state, Terminated) else None


def _state(state: Waiting | Running | Terminated) -> JsonObject:
    if isinstance(state, Running):
        return {"running": {"startedAt": timestamp(state.started_at)}}
    if isinstance(state, Terminated):
        return {"terminated": _terminated(state)}
    return {"waiting": {"reason": state.reason, **({"message": state.message} if state.message else {})}}


def _terminated(ended: Terminated) -> JsonObject:
    text: JsonObject = {
        "exitCode": ended.exit_code,
        "reason": ended.reason,
        "startedAt": timestamp(ended.started_at),
        "finishedAt": timestamp(ended.finished_at),
    }
    if ended.signal:
        text["signal"] = ended.signal
    if ended.message:
        text["message"] = ended.message
    return text


def _conditions(
    pod: JsonObject, runs: Sequence[ContainerRun], phase: str, ready_to_start: bool, now: str
) -> list[JsonObject]:
    """The pod's conditions; the time of one changes only with its status. Those of others stay."""
    unready = [run.name for run in runs if run.role in ("main", "sidecar") and not run.ready]
    present = {condition["type"]: condition for condition in (pod.get("status") or {}).get("conditions") or ()}
    gates = [gate["conditionType"] for gate in pod["spec"].get("readinessGates") or ()]
    open_gates = all((present.get(gate) or {}).get("status") == "True" for gate in gates)
    not_ready = ("ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
    if phase in ("Succeeded", "Failed"):
        not_ready = ("PodCompleted" if phase == "Succeeded" else "PodFailed", "")
    containers_ready = bool(runs) and not unready and phase == "Running"
    reasons = {
        "Initialized": ("ContainersNotInitialized", "containers with incomplete status"),
        "ContainersReady": not_ready,
        "Ready": not_ready if not containers_ready else ("ReadinessGatesNotReady", "a readiness gate is not met"),
    }
    values = {
        "PodReadyToStartContainers": ready_to_start,
        "Initialized": is_initialized(runs) and bool(runs),
        "Ready": containers_ready and open_gates,
        "ContainersReady": containers_ready,
        "PodScheduled": True,
    }
    conditions = []
    for kind in _CONDITIONS:
        status = "True" if values[kind] else "False"
        condition: JsonObject = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": now}
        before = present.get(kind)
        if before is not None and before["status"] == status:
            condition["lastTransitionTime"] = before.get("lastTransitionTime") or now
        if not values[kind] and kind in reasons:
            reason, message = reasons[kind]
            condition |= {"reason": reason, **({"message": message} if message else {})}
        conditions.append(condition)
    return [*conditions, *(condition for kind, condition in present.items() if kind not in _CONDITIONS)]
