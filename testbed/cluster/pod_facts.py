"""What the loops ask of a pod."""

from __future__ import annotations

from testbed.cluster.objects import JsonObject
from testbed.cluster.timestamps import seconds_of


def is_finished(pod: JsonObject) -> bool:
    """Whether a pod has ended for good, well or not."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def has_failed(pod: JsonObject) -> bool:
    """Whether a pod has ended for good, and not well."""
    return (pod.get("status") or {}).get("phase") == "Failed"


def is_terminating(wire: JsonObject) -> bool:
    """Whether an object is being deleted."""
    return "deletionTimestamp" in wire["metadata"]


def is_active(pod: JsonObject) -> bool:
    """Whether a pod counts as one of its workload's: it neither has ended nor is being ended."""
    if "deletionTimestamp" in pod["metadata"]:
        return False
    status = pod.get("status")
    return not status or status.get("phase") not in ("Succeeded", "Failed")


def condition(wire: JsonObject, condition_type: str) -> JsonObject:
    """One of an object's conditions; empty when it does not have it."""
    for entry in (wire.get("status") or {}).get("conditions") or ():
        if entry.get("type") == condition_type:
            found: JsonObject = entry
            return found
    return {}


def is_ready(pod: JsonObject) -> bool:
    """Whether the pod's condition ``Ready`` is true."""
    return bool(condition(pod, "Ready").get("status") == "True")


def available_at(pod: JsonObject, min_ready_s: int) -> float | None:
    """When a pod counts as available, in seconds since the epoch: so long after it became ready. None for one that is
    not ready, 0 where no time is asked for."""
    if not is_ready(pod):
        return None
    if min_ready_s <= 0:
        return 0.0
    return (seconds_of(condition(pod, "Ready").get("lastTransitionTime")) or 0.0) + min_ready_s


def created_at(wire: JsonObject) -> float:
    """When the store made an object, in seconds since the epoch; 0 for one that no store has seen."""
    return seconds_of(wire["metadata"].get("creationTimestamp")) or 0.0


def labels_of(wire: JsonObject) -> dict[str, str]:
    """An object's labels."""
    labels: dict[str, str] = wire["metadata"].get("labels") or {}
    return labels


def annotations_of(wire: JsonObject) -> dict[str, str]:
    """An object's annotations."""
    annotations: dict[str, str] = wire["metadata"].get("annotations") or {}
    return annotations
