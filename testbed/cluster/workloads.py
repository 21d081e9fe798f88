"""From Deployments to ReplicaSets to Pods: what should be, as a pure function of what is.

As Kubernetes' controllers, but for names, which are derived instead of drawn, so that equal input gives an equal
cluster, and for the order of scaling down, which leaves out what nothing here has (restarts, deletion costs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from testbed.cluster.endpoint_slices import is_ready, safe_digest
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.objects import JsonObject, object_name, object_namespace

TEMPLATE_HASH_LABEL = "pod-template-hash"
_HASH_LENGTH, _SUFFIX_LENGTH = 10, 5
_DEFAULT_REPLICAS = 1
_DEFAULT_SURGE = _DEFAULT_UNAVAILABLE = "25%"
_LIMIT = re.compile(r"\d{1,9}%?")


def template_hash(deployment: JsonObject) -> str:
    """What tells the ReplicaSets of a Deployment apart, and the pods of each."""
    return safe_digest(json.dumps(deployment["spec"]["template"], sort_keys=True), _HASH_LENGTH)


def replicas_of(workload: JsonObject) -> int:
    """How many pods a Deployment or ReplicaSet asks for."""
    wanted = workload["spec"].get("replicas")
    return _DEFAULT_REPLICAS if wanted is None else int(wanted)


def controller(wire: JsonObject) -> tuple[str, str] | None:
    """The kind and the uid of the object that keeps this one, None when none does."""
    for reference in wire["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("kind")), str(reference.get("uid", ""))
    return None


def replica_set(deployment: JsonObject, replicas: int) -> JsonObject:
    """The ReplicaSet for a Deployment's template as it is."""
    digest = template_hash(deployment)
    spec = deployment["spec"]
    template = _with_label(spec["template"], digest)
    selector = spec.get("selector") or {}
    labels = {**(selector.get("matchLabels") or {}), TEMPLATE_HASH_LABEL: digest}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {
            "name": f"{object_name(deployment)}-{digest}",
            "namespace": object_namespace(deployment),
            "labels": dict(template["metadata"]["labels"]),
            "ownerReferences": [_owned_by(deployment, "apps/v1", "Deployment")],
        },
        "spec": {"replicas": replicas, "selector": {**selector, "matchLabels": labels}, "template": template},
    }


def replica_pod(replica_set: JsonObject, name: str) -> JsonObject:
    """A pod from a ReplicaSet's template."""
    template = replica_set["spec"]["template"]
    metadata = {
        key: value for key, value in (template.get("metadata") or {}).items() if key in ("labels", "annotations")
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "name": name,
            "namespace": object_namespace(replica_set),
            "ownerReferences": [_owned_by(replica_set, "apps/v1", "ReplicaSet")],
        },
        "spec": template["spec"],
    }


class Scaling(NamedTuple):
    """What a ReplicaSet needs: pods to make and pods to delete, each in the order in which to do so."""

    create: list[JsonObject]
    delete: list[JsonObject]


def scale(replica_set: JsonObject, pods: Sequence[JsonObject]) -> Scaling:
    """The way to the number of pods that a ReplicaSet asks for; ``pods`` are all of its pods.

    Pods that terminate do not count. When there are too many, those go first that have no node, then
    those that do not run, then those that are not ready, and then the newest.
    """
    active = [pod for pod in pods if is_active(pod)]
    missing = replicas_of(replica_set) - len(active)
    if missing > 0:
        names = new_names(object_name(replica_set), missing, {object_name(pod) for pod in pods})
        return Scaling([replica_pod(replica_set, name) for name in names], [])
    if missing == 0:
        return Scaling([], [])
    # Names are made in a fixed order, and so tell which of two pods of the same second is the newer.
    order = {name: number for number, name in enumerate(new_names(object_name(replica_set), 2 * len(pods), ()))}

    def age(pod: JsonObject) -> tuple[str, int]:
        return str(pod["metadata"].get("creationTimestamp", "")), order.get(object_name(pod), len(order))

    def worth(pod: JsonObject) -> tuple[bool, bool, bool]:
        running = (pod.get("status") or {}).get("phase") == "Running"
        return bool(pod["spec"].get("nodeName")), running, is_ready(pod)

    newest_first = sorted(active, key=age, reverse=True)
    return Scaling([], sorted(newest_first, key=worth)[:-missing])


def is_active(pod: JsonObject) -> bool:
    """Whether a pod counts as one of its ReplicaSet's.

    One that has failed does, unlike in Kubernetes: here a pod fails only when it cannot be started, and another from
    the same template could not be either.
    """
    return "deletionTimestamp" not in pod["metadata"]


def new_names(replica_set_name: str, count: int, taken: Iterable[str]) -> list[str]:
    """The first ``count`` names of a ReplicaSet's pods that are free."""
    names: list[str] = []
    used = set(taken)
    number = 0
    while len(names) < count:
        name = f"{replica_set_name}-{safe_digest(f'{replica_set_name} {number}', _SUFFIX_LENGTH)}"
        number += 1
        if name not in used:
            used.add(name)
            names.append(name)
    return names


def replica_set_status(replica_set: JsonObject, pods: Iterable[JsonObject]) -> JsonObject:
    """The ReplicaSet's ``status``."""
    active = [pod for pod in pods if is_active(pod)]
    ready = sum(map(is_ready, active))
    return {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": replica_set["metadata"].get("generation", 1),
    }


def deployment_status(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> JsonObject:
    """The Deployment's ``status``, from those of its ReplicaSets."""
    digest = template_hash(deployment)
    totals = {"replicas": 0, "readyReplicas": 0, "availableReplicas": 0, "updatedReplicas": 0}
    for wire in replica_sets:
        status = wire.get("status") or {}
        for name in ("replicas", "readyReplicas", "availableReplicas"):
            totals[name] += status.get(name, 0)
        if _hash_label(wire) == digest:
            totals["updatedReplicas"] += status.get("replicas", 0)
    return {
        **totals,
        "unavailableReplicas": max(0, replicas_of(deployment) - totals["availableReplicas"]),
        "observedGeneration": deployment["metadata"].get("generation", 1),
    }


def rollout(deployment: JsonObject, replica_sets: Iterable[JsonObject]) -> dict[str, int]:
    """How many pods each of a Deployment's ReplicaSets should have now, by name; the present template's is among them.

    ``RollingUpdate`` keeps the number of pods below ``replicas + maxSurge`` and that of available ones above
    ``replicas - maxUnavailable``; ``Recreate`` starts no new pod while an old one is there.
    """
    wanted = replicas_of(deployment)
    new_name = f"{object_name(deployment)}-{template_hash(deployment)}"
    present = {object_name(wire): wire for wire in replica_sets}
    new = present.get(new_name)
    old = [wire for name, wire in sorted(present.items()) if name != new_name and _pods_of(wire) > 0]
    if not old:
        return {**dict.fromkeys(present, 0), new_name: wanted}
    strategy = deployment["spec"].get("strategy") or {}
    now = 0 if new is None else replicas_of(new)
    if strategy.get("type") == "Recreate":
        return {**dict.fromkeys(present, 0), new_name: now}
    limits = strategy.get("rollingUpdate") or {}
    surge = _share(limits.get("maxSurge", _DEFAULT_SURGE), wanted, round_up=True)
    unavailable = _share(limits.get("maxUnavailable", _DEFAULT_UNAVAILABLE), wanted, round_up=False)
    if surge == unavailable == 0:
        unavailable = 1  # as Kubernetes, or nothing could ever move
    target = {name: replicas_of(wire) for name, wire in present.items()}
    total, least = sum(target.values()), wanted - unavailable
    target[new_name] = min(wanted, max(now, now + wanted + surge - total))
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


def _pods_of(replica_set: JsonObject) -> int:
    return max(replicas_of(replica_set), int((replica_set.get("status") or {}).get("replicas", 0)))


def _available(replica_set: JsonObject) -> int:
    # A status may be older than the number that was asked for last.
    return min(int((replica_set.get("status") or {}).get("availableReplicas", 0)), replicas_of(replica_set))


def _share(value: int | str, total: int, round_up: bool) -> int:
    """A number, or a percentage of ``total``."""
    if isinstance(value, int):
        return value
    hundredths = int(value.removesuffix("%")) * total
    return -(-hundredths // 100) if round_up else hundredths // 100


def workload_problems(workload: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with a Deployment or ReplicaSet, beyond what the schemas say."""
    spec = workload.get("spec") or {}
    replicas = spec.get("replicas", _DEFAULT_REPLICAS)
    if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
        yield FieldProblem("spec.replicas", "is not a number of pods", str(replicas), "0 or more")
    strategy = spec.get("strategy")
    limits = (strategy.get("rollingUpdate") if isinstance(strategy, dict) else None) or {}
    for name, value in limits.items():
        if not _LIMIT.fullmatch(str(value)):
            allowed = "a number of pods, or a percentage"
            yield FieldProblem(f"spec.strategy.rollingUpdate.{name}", "is no limit", str(value), allowed)
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        yield FieldProblem("spec.template.spec", "is required")
        template = {}
    selector = spec.get("selector")
    labels = selector.get("matchLabels") if isinstance(selector, dict) else None
    if not isinstance(labels, dict) or not labels:
        yield FieldProblem("spec.selector.matchLabels", "is required")
        return
    assert isinstance(selector, dict)
    if selector.get("matchExpressions"):
        yield FieldProblem("spec.selector.matchExpressions", "is not supported", allowed="matchLabels")
    metadata = template.get("metadata")
    there = (metadata.get("labels") if isinstance(metadata, dict) else None) or {}
    for name, value in labels.items():
        if there.get(name) != value:
            reason = "is not a label of spec.template, so the pods would not be found"
            yield FieldProblem("spec.selector.matchLabels", reason, f"{name}={value}")


def _owned_by(owner: JsonObject, api_version: str, kind: str) -> JsonObject:
    uid = {"uid": owner["metadata"]["uid"]} if "uid" in owner["metadata"] else {}
    return {"apiVersion": api_version, "kind": kind, "name": object_name(owner), "controller": True, **uid}


def _with_label(template: JsonObject, digest: str) -> JsonObject:
    metadata = template.get("metadata") or {}
    return {
        **template,
        "metadata": {**metadata, "labels": {**(metadata.get("labels") or {}), TEMPLATE_HASH_LABEL: digest}},
    }


def _hash_label(replica_set: JsonObject) -> str:
    return str((replica_set["metadata"].get("labels") or {}).get(TEMPLATE_HASH_LABEL, ""))
