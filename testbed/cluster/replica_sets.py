"""ReplicaSets to Pods: what should be, as a pure function of what is.

As Kubernetes' controller, but for names, which are derived instead of drawn.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import NamedTuple

from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import (
    annotations_of,
    available_at,
    created_at,
    has_failed,
    is_active,
    is_finished,
    is_ready,
    is_terminating,
)
from testbed.cluster.templates import new_names, template_pod

# https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"

# What is replaced because it failed waits like the kubelet's restarts: this long, and twice that each time.
_FIRST_DELAY_S, _LONGEST_DELAY_S = 10.0, 300.0


def replicas_of(workload: JsonObject) -> int:
    """How many pods a workload asks for."""
    wanted = workload["spec"].get("replicas")
    return 1 if wanted is None else int(wanted)


def min_ready_s(workload: JsonObject) -> int:
    """How long a pod must have been ready to count as available."""
    return int(workload["spec"].get("minReadySeconds") or 0)


class Scaling(NamedTuple):
    """What a ReplicaSet needs: pods to make and pods to delete, each in the order in which to do so, and when to look
    again though nothing changes (seconds since the epoch)."""

    create: list[JsonObject]
    delete: list[JsonObject]
    again_at: float | None = None


def scale(replica_set: JsonObject, pods: Sequence[JsonObject], now_s: float, taken: Container[str] = ()) -> Scaling:
    """The way to the number of pods that a ReplicaSet asks for; ``pods`` are all of its pods, ``taken`` are names that
    it cannot use beside theirs.

    Pods that terminate or have ended do not count. When there are too many, those go first that have no node, then
    those that do not run, those that are not ready, those that cost least, those that restarted most, and the newest.
    """
    active = [pod for pod in pods if is_active(pod)]
    # Most have neither ended nor are being ended; those others are few.
    held, again_at = (0, None) if len(active) == len(pods) else _held_back(replica_set, pods, now_s)
    missing = replicas_of(replica_set) - len(active)
    if missing > 0:
        own = {object_name(pod) for pod in pods}
        names = new_names(object_name(replica_set), max(0, missing - held), lambda name: name in own or name in taken)
        template = replica_set["spec"]["template"]
        return Scaling([template_pod(replica_set, template, name, None) for name in names], [], again_at)
    if missing == 0:
        return Scaling([], [])
    # Names are made in a fixed order, and so tell which of two pods of the same second is the newer.
    order = {name: number for number, name in enumerate(new_names(object_name(replica_set), 2 * len(pods)))}

    def age(pod: JsonObject) -> tuple[str, int]:
        return str(pod["metadata"].get("creationTimestamp", "")), order.get(object_name(pod), len(order))

    newest_first = sorted(active, key=age, reverse=True)
    return Scaling([], sorted(newest_first, key=_worth)[:-missing])


def _worth(pod: JsonObject) -> tuple[bool, bool, bool, int, int]:
    status = pod.get("status") or {}
    try:
        cost = int(annotations_of(pod).get(DELETION_COST, "0"))
    except ValueError:
        cost = 0
    restarts = sum(int(entry.get("restartCount", 0)) for entry in status.get("containerStatuses") or ())
    return bool(pod["spec"].get("nodeName")), status.get("phase") == "Running", is_ready(pod), cost, -restarts


def _held_back(replica_set: JsonObject, pods: Sequence[JsonObject], now_s: float) -> tuple[int, float | None]:
    """How many pods are not replaced yet because too many before them have failed, and until when.

    Kubernetes replaces a failed pod at once, and so for ever when the next one fails as well; each of those is a
    network namespace and several processes here.
    """
    failed = sorted((created_at(pod) for pod in pods if has_failed(pod)), reverse=True)
    generations = -(-len(failed) // max(1, replicas_of(replica_set)))
    if generations <= 1:
        return 0, None
    delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2 ** min(generations - 2, 10))
    held = [made for made in failed if made + delay_s > now_s]
    return len(held), min(held) + delay_s if held else None


def replica_set_status(
    replica_set: JsonObject, pods: Iterable[JsonObject], now_s: float, deleted: Container[str] = ()
) -> JsonObject:
    """The ReplicaSet's ``status``. ``deleted`` are the uids of pods that have been deleted just now: they must not
    count as available in a status that says it is about the number that is wanted since."""
    quiet_s = min_ready_s(replica_set)
    replicas = ready = available = terminating = 0
    for pod in pods:
        if is_finished(pod):
            continue
        if is_terminating(pod) or pod["metadata"].get("uid") in deleted:
            terminating += 1
            continue
        replicas += 1
        if is_ready(pod):
            ready += 1
            available += quiet_s <= 0 or (available_at(pod, quiet_s) or 0.0) <= now_s
    return {
        "replicas": replicas,
        "fullyLabeledReplicas": replicas,
        "readyReplicas": ready,
        "availableReplicas": available,
        "terminatingReplicas": terminating,
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }


def next_available_at(workload: JsonObject, pods: Iterable[JsonObject], now_s: float) -> float | None:
    """When the next pod that is ready becomes available, too; None when none is on its way."""
    quiet_s = min_ready_s(workload)
    if quiet_s <= 0:
        return None
    moments = (available_at(pod, quiet_s) for pod in pods if is_active(pod))
    return min((moment for moment in moments if moment is not None and moment > now_s), default=None)
