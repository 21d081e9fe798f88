"""What the API server sets in workloads where people say nothing, and what it refuses beyond the schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from testbed.cluster.defaulting import set_defaults
from testbed.cluster.deployments import LIMIT
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.jobs import JOB_NAME_LABELS, JOB_UID_LABELS
from testbed.cluster.kinds import kind_of
from testbed.cluster.label_selectors import selector_problems
from testbed.cluster.objects import JsonObject, is_valid_name, object_name

WORKLOADS = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job")

# More pods than that in one workload are a slip of the finger: each is a network namespace and several processes.
MOST_REPLICAS = 1000
_MAXIMUM = 2**31 - 1
# What cannot be changed once it is there (apps/v1, batch/v1).
_FIXED = {
    "Deployment": ("selector",),
    "ReplicaSet": ("selector",),
    "DaemonSet": ("selector",),
    "StatefulSet": ("selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"),
    "Job": ("selector", "completions", "completionMode", "template"),
}


def set_workload_defaults(wire: JsonObject) -> None:
    """Complete a workload in place; what makes no sense is left for :func:`workload_problems`."""
    spec = wire.setdefault("spec", {})
    set_defaults(kind_of(wire), wire)
    if wire["kind"] == "Job":
        _complete_job(wire, spec)


def _complete_job(wire: JsonObject, spec: JsonObject) -> None:
    """A Job's pods are found by its uid, once it has one."""
    uid, template = wire["metadata"].get("uid"), spec.get("template")
    if uid is None or not isinstance(template, dict) or spec.get("selector") or spec.get("manualSelector"):
        return
    spec["selector"] = {"matchLabels": {JOB_UID_LABELS[1]: uid}}
    labels = template.setdefault("metadata", {}).setdefault("labels", {})
    labels.update(job_labels(object_name(wire), uid))


def job_labels(job_name: str, uid: str) -> dict[str, str]:
    """What the pods of a Job carry."""
    return {**dict.fromkeys(JOB_NAME_LABELS, job_name), **dict.fromkeys(JOB_UID_LABELS, uid)}


def change_problems(new: JsonObject, old: JsonObject) -> Iterator[FieldProblem]:
    """What cannot be changed of a workload that is there."""
    for name in _FIXED[new["kind"]]:
        if new["spec"].get(name) != (old.get("spec") or {}).get(name):
            yield FieldProblem(f"spec.{name}", "cannot be changed")


def workload_problems(workload: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with a workload, beyond what the schemas say."""
    spec, kind = workload.get("spec") or {}, workload["kind"]
    for name in ("replicas", "parallelism"):
        yield from _number(spec, name, "is not a number of pods", MOST_REPLICAS)
    for name in ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"):
        yield from _number(spec, name, "is not a number")
    template = spec.get("template")
    if not isinstance(template, dict) or not isinstance(template.get("spec"), dict):
        yield FieldProblem("spec.template.spec", "is required")
        template = {}
    metadata = template.get("metadata")
    labels = (metadata.get("labels") if isinstance(metadata, dict) else None) or {}
    if not isinstance(labels, dict) or not all(isinstance(text, str) for text in labels.values()):
        yield FieldProblem("spec.template.metadata.labels", "must map strings to strings")
        labels = {}
    if kind != "Job" or spec.get("selector"):
        yield from selector_problems(spec.get("selector"), labels, "spec.selector")
    yield from _restart_policy(kind, template.get("spec") or {})
    yield from _OWN[kind](spec)


def _number(spec: JsonObject, name: str, reason: str, most: int = _MAXIMUM) -> Iterator[FieldProblem]:
    value = spec.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most):
        allowed = "0 or more" if most == _MAXIMUM else f"from 0 to {most}"
        yield FieldProblem(f"spec.{name}", reason, str(value), allowed)


def _restart_policy(kind: str, pod_spec: JsonObject) -> Iterator[FieldProblem]:
    policy = pod_spec.get("restartPolicy")
    field = "spec.template.spec.restartPolicy"
    if kind == "Job":
        if policy not in ("OnFailure", "Never"):
            yield FieldProblem(field, "must be OnFailure or Never in a Job", str(policy or "Always"))
    elif policy not in (None, "Always"):
        yield FieldProblem(field, "must be Always", str(policy))


def _strategy(spec: JsonObject, name: str, types: tuple[str, ...], limits: tuple[str, ...]) -> Iterator[FieldProblem]:
    strategy = spec.get(name)
    if strategy is None:
        return
    if not isinstance(strategy, dict):
        yield FieldProblem(f"spec.{name}", "must be a mapping")
        return
    how = strategy.get("type", "RollingUpdate")
    if how not in types:
        yield FieldProblem(f"spec.{name}.type", "is not a way to update", str(how), ", ".join(types))
    given = strategy.get("rollingUpdate") or {}
    if not isinstance(given, dict):
        yield FieldProblem(f"spec.{name}.rollingUpdate", "must be a mapping")
        return
    for field in limits:
        value = given.get(field)
        if value is not None and (isinstance(value, bool) or not LIMIT.fullmatch(str(value))):
            allowed = "a number of pods, or a percentage"
            yield FieldProblem(f"spec.{name}.rollingUpdate.{field}", "is no limit", str(value), allowed)


def _deployment(spec: JsonObject) -> Iterator[FieldProblem]:
    yield from _strategy(spec, "strategy", ("RollingUpdate", "Recreate"), ("maxSurge", "maxUnavailable"))


def _replica_set(spec: JsonObject) -> Iterator[FieldProblem]:
    yield from ()


def _stateful_set(spec: JsonObject) -> Iterator[FieldProblem]:
    yield from _strategy(spec, "updateStrategy", ("RollingUpdate", "OnDelete"), ())
    policy, known = spec.get("podManagementPolicy"), ("OrderedReady", "Parallel")
    if policy is not None and policy not in known:
        yield FieldProblem("spec.podManagementPolicy", "is not a policy", str(policy), ", ".join(known))
    strategy = spec.get("updateStrategy")
    rolling = (strategy.get("rollingUpdate") if isinstance(strategy, dict) else None) or {}
    partition = rolling.get("partition", 0) if isinstance(rolling, dict) else 0
    if not isinstance(partition, int) or isinstance(partition, bool) or partition < 0:
        field = "spec.updateStrategy.rollingUpdate.partition"
        yield FieldProblem(field, "is not an ordinal", str(partition), "0 or more")
    claims = spec.get("volumeClaimTemplates") or []
    for index, claim in enumerate(claims if isinstance(claims, list) else []):
        metadata = claim.get("metadata") if isinstance(claim, dict) else None
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not is_valid_name(name):
            field = f"spec.volumeClaimTemplates[{index}].metadata.name"
            yield FieldProblem(field, "a claim needs a name", str(name or ""), "RFC 1123 subdomain")


def _daemon_set(spec: JsonObject) -> Iterator[FieldProblem]:
    yield from _strategy(spec, "updateStrategy", ("RollingUpdate", "OnDelete"), ("maxSurge", "maxUnavailable"))


def _job(spec: JsonObject) -> Iterator[FieldProblem]:
    for name in ("completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"):
        yield from _number(spec, name, "is not a number")
    mode, known = spec.get("completionMode"), ("NonIndexed", "Indexed")
    if mode is not None and mode not in known:
        yield FieldProblem("spec.completionMode", "is not a mode", str(mode), ", ".join(known))
    if mode == "Indexed" and spec.get("completions") is None:
        yield FieldProblem("spec.completions", "is required with completionMode Indexed")


_OWN: dict[str, Callable[[JsonObject], Iterator[Any]]] = {
    "Deployment": _deployment,
    "ReplicaSet": _replica_set,
    "StatefulSet": _stateful_set,
    "DaemonSet": _daemon_set,
    "Job": _job,
}
