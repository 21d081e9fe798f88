"""StatefulSets to Pods: what should be done next, as a pure function of what is.

The steps are those of Kubernetes' ``updateStatefulSet``
(k8s.io/kubernetes/pkg/controller/statefulset/stateful_set_control.go).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import available_at, created_at, is_finished, is_ready, is_terminating, labels_of
from testbed.cluster.replica_sets import min_ready_s, replicas_of
from testbed.cluster.revisions import template_of
from testbed.cluster.templates import REVISION_HASH_LABEL, template_pod

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
# A pod that has ended is made anew not sooner than this after it was made: it could be one that cannot run at all.
_RETRY_S = 5.0
_ORDINAL = re.compile(r"(.*)-(0|[1-9]\d{0,8})")


class Step(NamedTuple):
    """What to do now: pods to make, pods to delete, those among the deleted that have ended and are made anew, and
    moments (seconds since the epoch) at which to look again though nothing changes."""

    create: list[JsonObject]
    delete: list[JsonObject]
    ended: list[JsonObject]
    again_at: list[float]


def ordinal_of(owner_name: str, pod_name: str) -> int | None:
    """Which of a StatefulSet's pods has this name; None for one that cannot be its."""
    match = _ORDINAL.fullmatch(pod_name)
    return int(match.group(2)) if match is not None and match.group(1) == owner_name else None


def first_ordinal(stateful_set: JsonObject) -> int:
    """``spec.ordinals.start``."""
    return int((stateful_set["spec"].get("ordinals") or {}).get("start") or 0)


def stateful_pod(stateful_set: JsonObject, revision: JsonObject, ordinal: int) -> JsonObject:
    """The pod of one ordinal by a revision's template: its stable name, host name and volumes."""
    name, spec = f"{object_name(stateful_set)}-{ordinal}", stateful_set["spec"]
    labels = {
        POD_NAME_LABEL: name,
        POD_INDEX_LABEL: str(ordinal),
        REVISION_HASH_LABEL: object_name(revision),
    }
    pod = template_pod(stateful_set, template_of(revision), name, labels)
    own: JsonObject = {**pod["spec"], "hostname": name}
    if spec.get("serviceName"):
        own["subdomain"] = spec["serviceName"]
    if claims := [object_name(claim) for claim in spec.get("volumeClaimTemplates") or ()]:
        others = [volume for volume in own.get("volumes") or () if volume.get("name") not in claims]
        mine = [{"name": claim, "persistentVolumeClaim": {"claimName": f"{claim}-{name}"}} for claim in claims]
        own["volumes"] = [*others, *mine]
    return {**pod, "spec": own}


def partition_of(stateful_set: JsonObject) -> int:
    """The first ordinal that is updated."""
    return int(((stateful_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}).get("partition") or 0)


def is_rolling(stateful_set: JsonObject) -> bool:
    """Whether pods are replaced when the template changes, rather than when somebody deletes them."""
    strategy = stateful_set["spec"].get("updateStrategy") or {}
    return bool(strategy.get("type", "RollingUpdate") == "RollingUpdate")


def is_ordered(stateful_set: JsonObject) -> bool:
    """Whether its pods come and go one after the other, each when the one before is ready."""
    return bool(stateful_set["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady")


def next_step(
    stateful_set: JsonObject, current: JsonObject, update: JsonObject, pods: Iterable[JsonObject], now_s: float
) -> Step:
    """What is to be done now. ``current`` and ``update`` are the revisions before and of the template as it is;
    ``pods`` are the StatefulSet's."""
    name = object_name(stateful_set)
    ordered = is_ordered(stateful_set)
    first, wanted, quiet_s = first_ordinal(stateful_set), replicas_of(stateful_set), min_ready_s(stateful_set)
    by_ordinal = {ordinal: pod for pod in pods if (ordinal := ordinal_of(name, object_name(pod))) is not None}
    span = range(first, first + wanted)
    surplus = sorted((ordinal for ordinal in by_ordinal if ordinal not in span), reverse=True)
    below = first + partition_of(stateful_set) if is_rolling(stateful_set) else 0
    step = Step([], [], [], [])

    def settled(pod: JsonObject) -> bool:
        since = available_at(pod, quiet_s)
        return not is_terminating(pod) and since is not None and since <= now_s

    for ordinal in span:
        pod = by_ordinal.get(ordinal)
        if pod is None:
            step.create.append(stateful_pod(stateful_set, current if ordinal < below else update, ordinal))
        elif is_finished(pod) and not is_terminating(pod):
            if created_at(pod) + _RETRY_S > now_s:
                step.again_at.append(created_at(pod) + _RETRY_S)
            else:
                step.ended.append(pod)
                step.delete.append(pod)
        elif settled(pod):
            continue
        if ordered:
            return step
    unwell = [ordinal for ordinal in sorted(by_ordinal) if not settled(by_ordinal[ordinal])]
    for ordinal in surplus:
        pod = by_ordinal[ordinal]
        if not is_terminating(pod):
            # In order, a pod goes only while all others are well, unless it is the first of those that are not.
            if ordered and not settled(pod) and ordinal != unwell[0]:
                return step
            step.delete.append(pod)
        if ordered:
            return step
    if not is_rolling(stateful_set) or step.create or step.delete:
        return step
    for ordinal in reversed(range(max(first, below), first + wanted)):
        pod = by_ordinal[ordinal]
        if labels_of(pod).get(REVISION_HASH_LABEL) != object_name(update):
            if not is_terminating(pod):
                step.delete.append(pod)
            return step
        if not settled(pod):
            return step
    return step


def stateful_set_status(
    stateful_set: JsonObject, current: JsonObject, update: JsonObject, pods: Sequence[JsonObject], now_s: float
) -> JsonObject:
    """The StatefulSet's ``status``. When every pod is of the update's revision and ready, that is the current one."""
    quiet_s = min_ready_s(stateful_set)
    there = [pod for pod in pods if not is_finished(pod)]
    revisions = [labels_of(pod).get(REVISION_HASH_LABEL) for pod in there if not is_terminating(pod)]
    moments = [available_at(pod, quiet_s) for pod in there]
    ready = sum(map(is_ready, there))
    updated, before = revisions.count(object_name(update)), revisions.count(object_name(current))
    if is_rolling(stateful_set) and updated == len(there) == ready == replicas_of(stateful_set):
        current, before = update, updated
    return {
        "replicas": len(there),
        "readyReplicas": ready,
        "availableReplicas": sum(moment is not None and moment <= now_s for moment in moments),
        "currentReplicas": before,
        "updatedReplicas": updated,
        "currentRevision": object_name(current),
        "updateRevision": object_name(update),
        "collisionCount": 0,
        "observedGeneration": stateful_set["metadata"].get("generation", 1),
    }
