"""Deployments to ReplicaSets: what should be, as a pure function of what is.

As Kubernetes' controller (k8s.io/kubernetes/pkg/controller/deployment), but for the hash in names, which is another.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller_reference
from testbed.cluster.pod_facts import annotations_of, created_at, is_terminating, labels_of
from testbed.cluster.replica_sets import replicas_of
from testbed.cluster.templates import TEMPLATE_HASH_LABEL, template_hash

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
# What a ReplicaSet does not take over from its Deployment.
_OWN_ANNOTATIONS = (
    *("kubectl.kubernetes.io/last-applied-configuration", "deprecated.deployment.rollback.to"),
    *(REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS),
)
DEFAULT_LIMIT = "25%"
DEFAULT_HISTORY = 10
LIMIT = re.compile(r"\d{1,9}%?")

Targets = dict[str, int]  # how many pods each ReplicaSet should have, by its name


def new_name(deployment: JsonObject) -> str:
    """The name of the ReplicaSet for the Deployment's template as it is."""
    return f"{object_name(deployment)}-{template_hash(deployment)}"


def newest(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> JsonObject | None:
    """The ReplicaSet of the Deployment's template as it is, None when it is not there."""
    digest = template_hash(deployment)
    found = [wire for wire in replica_sets if labels_of(wire).get(TEMPLATE_HASH_LABEL) == digest]
    return min(found, key=lambda wire: (created_at(wire), object_name(wire)), default=None)


def replica_set(deployment: JsonObject, replicas: int, replica_sets: Iterable[JsonObject] = ()) -> JsonObject:
    """A new ReplicaSet for a Deployment's template as it is, beside those that are there."""
    digest = template_hash(deployment)
    spec = deployment["spec"]
    template, selector = _with_label(spec["template"], digest), spec.get("selector") or {}
    labels = {**(selector.get("matchLabels") or {}), TEMPLATE_HASH_LABEL: digest}
    quiet = {"minReadySeconds": spec["minReadySeconds"]} if spec.get("minReadySeconds") else {}
    made: JsonObject = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{object_name(deployment)}-{digest}",
            "namespace": object_namespace(deployment),
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {"replicas": replicas, "selector": {**selector, "matchLabels": labels}, "template": template, **quiet},
    }
    made["metadata"]["annotations"] = replica_set_annotations(deployment, made, replica_sets)
    return made


def _with_label(template: JsonObject, digest: str) -> JsonObject:
    metadata = template.get("metadata") or {}
    return {
        **template,
        "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), TEMPLATE_HASH_LABEL: digest}},
    }


def revision_of(wire: JsonObject) -> int:
    """The revision that a Deployment or ReplicaSet says it has; 0 without."""
    text = annotations_of(wire).get(REVISION, "")
    return int(text) if text.isdecimal() else 0


def replica_set_annotations(deployment: JsonObject, new: JsonObject, others: Iterable[JsonObject]) -> dict[str, str]:
    """The annotations of the ReplicaSet of the present template: its revision, and what it takes over."""
    there = annotations_of(new)
    kept = {name: text for name, text in annotations_of(deployment).items() if name not in _OWN_ANNOTATIONS}
    before = revision_of(new)
    highest = max((revision_of(wire) for wire in others if object_name(wire) != object_name(new)), default=0)
    revision = max(before, highest + 1)
    history = [text for text in there.get(REVISION_HISTORY, "").split(",") if text]
    if before and revision != before:
        history.append(str(before))
    told = {REVISION_HISTORY: ",".join(history)} if history else {}
    return {**there, **kept, **told, REVISION: str(revision), **size_annotations(deployment)}


def size_annotations(deployment: JsonObject) -> dict[str, str]:
    """What an active ReplicaSet remembers of the Deployment's size, to be scaled in proportion later."""
    wanted = replicas_of(deployment)
    return {DESIRED_REPLICAS: str(wanted), MAX_REPLICAS: str(wanted + rolling_limits(deployment)[0])}


def rolling_limits(deployment: JsonObject) -> tuple[int, int]:
    """``maxSurge`` and ``maxUnavailable`` in pods."""
    wanted, strategy = replicas_of(deployment), deployment["spec"].get("strategy") or {}
    if wanted == 0 or strategy.get("type") == "Recreate":
        return 0, 0
    limits = strategy.get("rollingUpdate") or {}
    surge = share(limits.get("maxSurge", DEFAULT_LIMIT), wanted, round_up=True)
    unavailable = min(wanted, share(limits.get("maxUnavailable", DEFAULT_LIMIT), wanted, round_up=False))
    if surge == unavailable == 0:
        unavailable = 1  # as Kubernetes, or nothing could ever move
    return surge, unavailable


def share(value: int | str, total: int, round_up: bool) -> int:
    """A number, or a percentage of ``total``."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        return int(value)
    hundredths = int(value.removesuffix("%")) * total
    return -(-hundredths // 100) if round_up else hundredths // 100


def rollout(deployment: JsonObject, replica_sets: Sequence[JsonObject]) -> Targets:
    """How many pods each of a Deployment's ReplicaSets should have now, by name; the present template's is among them,
    unless the Deployment is paused.

    ``RollingUpdate`` keeps the number of pods below ``replicas + maxSurge`` and that of available ones above
    ``replicas - maxUnavailable``; ``Recreate`` starts no new pod while an old one is there. A Deployment whose size
    changes meanwhile, or while it is paused, is scaled in proportion.
    """
    if deployment["spec"].get("paused") is True or _was_resized(deployment, replica_sets):
        return _resized(deployment, replica_sets)
    wanted = replicas_of(deployment)
    present = {object_name(wire): wire for wire in replica_sets}
    new = newest(deployment, replica_sets)
    name = new_name(deployment) if new is None else object_name(new)
    old = [wire for each, wire in sorted(present.items()) if each != name and _pods_of(wire) > 0]
    if not old:
        return {**dict.fromkeys(present, 0), name: wanted}
    now = 0 if new is None else replicas_of(new)
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return {**dict.fromkeys(present, 0), name: now}
    surge, unavailable = rolling_limits(deployment)
    target = {each: replicas_of(wire) for each, wire in present.items()}
    total, least = sum(target.values()), wanted - unavailable
    target[name] = min(wanted, max(now, now + wanted + surge - total))
    # First go old pods that are of no use, as long as the new ones that are not yet available could be spared, too;
    # then as many of the others as there are available ones to spare.
    idle = total - least - (0 if new is None else now - _available(new))
    if idle <= 0:
        return target
    spare = sum(map(_available, present.values())) - least
    for wire in old:
        gone = max(0, min(idle, replicas_of(wire) - _available(wire)))
        idle -= gone
        target[object_name(wire)] -= gone
    for wire in old:
        gone = max(0, min(spare, target[object_name(wire)]))
        spare -= gone
        target[object_name(wire)] -= gone
    return target


def _was_resized(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> bool:
    """Whether active ReplicaSets remember another size of the Deployment."""
    wanted = str(replicas_of(deployment))
    active = [annotations_of(wire) for wire in replica_sets if replicas_of(wire) > 0]
    return any(annotations.get(DESIRED_REPLICAS, wanted) != wanted for annotations in active)


def _resized(deployment: JsonObject, replica_sets: Sequence[JsonObject]) -> Targets:
    """The ReplicaSets of a Deployment that changes in size but in nothing else."""
    wanted, new = replicas_of(deployment), newest(deployment, replica_sets)
    target = {object_name(wire): replicas_of(wire) for wire in replica_sets}
    active = [wire for wire in replica_sets if replicas_of(wire) > 0]
    if len(active) <= 1:
        by_age = sorted(replica_sets, key=lambda wire: (created_at(wire), object_name(wire)))
        only = active[0] if active else new or (by_age[-1] if by_age else None)
        return target if only is None else {**target, object_name(only): wanted}
    if new is not None and replicas_of(new) == wanted == _available(new):
        return {**dict.fromkeys(target, 0), object_name(new): wanted}
    if (deployment["spec"].get("strategy") or {}).get("type") == "Recreate":
        return target
    most = wanted + rolling_limits(deployment)[0] if wanted else 0
    change = most - sum(target.values())
    # The largest first; among equals the newest when pods are added, the oldest when they are taken.
    active.sort(key=lambda wire: (created_at(wire), object_name(wire)), reverse=change > 0)
    active.sort(key=replicas_of, reverse=True)
    done = 0
    for wire in active:
        part = _proportion(deployment, wire, most, wanted)
        part = max(0, min(part, change - done)) if change > 0 else min(0, max(part, change - done))
        target[object_name(wire)] += part
        done += part
    first = object_name(active[0])
    target[first] = max(0, target[first] + change - done)
    return target


def _proportion(deployment: JsonObject, wire: JsonObject, most: int, wanted: int) -> int:
    size = replicas_of(wire)
    if wanted == 0:
        return -size
    text = annotations_of(wire).get(MAX_REPLICAS, "")
    before = int(text) if text.isdecimal() else 0
    before = before or int((deployment.get("status") or {}).get("replicas", 0))
    return int(size * most / before + 0.5) - size if before else 0


def surplus(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> list[JsonObject]:
    """Old ReplicaSets without pods beyond ``revisionHistoryLimit``, the oldest first."""
    kept = deployment["spec"].get("revisionHistoryLimit")
    kept = DEFAULT_HISTORY if kept is None else int(kept)
    name = new_name(deployment)
    old = [wire for wire in replica_sets if object_name(wire) != name and not is_terminating(wire)]
    too_many = len(old) - kept
    if too_many <= 0:
        return []
    unused = [wire for wire in old if replicas_of(wire) == 0 and _pods_of(wire) == 0 and is_observed(wire)]
    unused.sort(key=lambda wire: (revision_of(wire), created_at(wire), object_name(wire)))
    return unused[:too_many]


def is_observed(wire: JsonObject) -> bool:
    """Whether an object's status is about its spec as it is."""
    observed = (wire.get("status") or {}).get("observedGeneration", 0)
    return bool(observed >= wire["metadata"].get("generation", 1))


def _pods_of(wire: JsonObject) -> int:
    status: Mapping[str, int] = wire.get("status") or {}
    return max(replicas_of(wire), int(status.get("replicas", 0)) + int(status.get("terminatingReplicas", 0)))


def _available(wire: JsonObject) -> int:
    # A status may be older than the number that was asked for last.
    return min(int((wire.get("status") or {}).get("availableReplicas", 0)), replicas_of(wire))
