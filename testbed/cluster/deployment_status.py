"""What a Deployment says of itself: counts, and the conditions ``Available`` and ``Progressing`` that kubectl reads."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.cluster.conditions import with_condition
from testbed.cluster.deployments import newest, rolling_limits
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import condition
from testbed.cluster.replica_sets import replicas_of
from testbed.cluster.timestamps import seconds_of

DEFAULT_DEADLINE_S = 600
_NO_DEADLINE = 2**31 - 1

_COMPLETE, _TIMED_OUT = "NewReplicaSetAvailable", "ProgressDeadlineExceeded"


def deployment_status(
    deployment: JsonObject, replica_sets: Sequence[JsonObject], now_s: float, created: str = ""
) -> JsonObject:
    """The Deployment's ``status``, from those of its ReplicaSets. ``created`` is one that was made just now."""
    new, before = newest(deployment, replica_sets), deployment.get("status") or {}
    counts = {"replicas": 0, "updatedReplicas": 0, "readyReplicas": 0, "availableReplicas": 0, "terminatingReplicas": 0}
    for wire in replica_sets:
        status = wire.get("status") or {}
        for name in counts:
            if name != "updatedReplicas":
                counts[name] += int(status.get(name, 0))
        if wire is new:
            counts["updatedReplicas"] += int(status.get("replicas", 0))
    status = {
        **counts,
        "unavailableReplicas": max(0, sum(map(replicas_of, replica_sets)) - counts["availableReplicas"]),
        "observedGeneration": deployment["metadata"].get("generation", 1),
        "conditions": _available(deployment, counts, now_s),
    }
    status["conditions"] = _progressing(deployment, new, before, status, now_s, created)
    return status


def deadline_at(deployment: JsonObject, status: JsonObject) -> float | None:
    """When a rollout that makes no progress is out of time; None when none is on its way or time does not matter."""
    progressing = condition({"status": status}, "Progressing")
    if progressing.get("status") != "True" or progressing.get("reason") == _COMPLETE:
        return None
    deadline_s = _deadline_s(deployment)
    updated = seconds_of(progressing.get("lastUpdateTime"))
    # A moment later than the whole second that is written.
    return None if deadline_s is None or updated is None else updated + deadline_s + 1


def is_complete(deployment: JsonObject, status: JsonObject) -> bool:
    """Whether all pods are of the present template, available, and no other is left."""
    wanted = replicas_of(deployment)
    return all(status.get(name) == wanted for name in ("updatedReplicas", "replicas", "availableReplicas"))


def _available(deployment: JsonObject, counts: JsonObject, now_s: float) -> list[JsonObject]:
    least = replicas_of(deployment) - rolling_limits(deployment)[1]
    good = counts["availableReplicas"] >= least
    reason = "MinimumReplicasAvailable" if good else "MinimumReplicasUnavailable"
    message = f"Deployment {'has' if good else 'does not have'} minimum availability."
    there = (deployment.get("status") or {}).get("conditions") or []
    return with_condition(there, "Available", "True" if good else "False", reason, message, now_s)


def _progressing(
    deployment: JsonObject,
    new: JsonObject | None,
    before: JsonObject,
    status: JsonObject,
    now_s: float,
    created: str,
) -> list[JsonObject]:
    """As Kubernetes' ``syncRolloutStatus`` and ``checkPausedConditions``."""
    there: list[JsonObject] = status["conditions"]
    known = condition({"status": status}, "Progressing")
    deadline_s = _deadline_s(deployment)
    if deadline_s is None:
        return [entry for entry in there if entry["type"] != "Progressing"]

    def say(value: str, reason: str, message: str) -> list[JsonObject]:
        return with_condition(there, "Progressing", value, reason, message, now_s, updated=True)

    reason, paused = known.get("reason"), deployment["spec"].get("paused") is True
    if paused != (reason == "DeploymentPaused") and reason != _TIMED_OUT:
        word = "Paused" if paused else "Resumed"
        return say("Unknown", f"Deployment{word}", f"Deployment is {word.lower()}")
    if paused:
        return there
    if created:
        return say("True", "NewReplicaSetCreated", f'Created new replica set "{created}"')
    name = object_name(new) if new is not None else object_name(deployment)
    if reason == _COMPLETE and status["replicas"] == status["updatedReplicas"]:
        return there
    if is_complete(deployment, status):
        return say("True", _COMPLETE, f'ReplicaSet "{name}" has successfully progressed.')
    if not known and new is not None:
        return say("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')
    if _has_progressed(before, status):
        return say("True", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    updated = seconds_of(known.get("lastUpdateTime"))
    late = reason != _COMPLETE and updated is not None and updated + deadline_s < now_s
    if late and reason != _TIMED_OUT:
        return say("False", _TIMED_OUT, f'ReplicaSet "{name}" has timed out progressing.')
    return there


def _has_progressed(before: JsonObject, now: JsonObject) -> bool:
    def old(status: JsonObject) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    more = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return any(now[name] > before.get(name, 0) for name in more) or old(now) < old(before)


def _deadline_s(deployment: JsonObject) -> int | None:
    given = deployment["spec"].get("progressDeadlineSeconds")
    given = DEFAULT_DEADLINE_S if given is None else int(given)
    return None if given >= _NO_DEADLINE else given
