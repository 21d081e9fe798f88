"""PodDisruptionBudgets: how many pods may be taken away on purpose now, as a pure function of what is
(k8s.io/kubernetes/pkg/controller/disruption)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from testbed.cluster.conditions import with_condition
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.label_selectors import OPERATORS, expression_problems, selects
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import is_ready, is_terminating, labels_of
from testbed.cluster.timestamps import seconds_of

# A pod that was to be evicted and is still there after so long has not been.
_EVICTION_S = 120.0
_LIMIT = re.compile(r"\d{1,9}|(100|\d{1,2})%")

ScaleOf = Callable[[JsonObject], tuple[str, int] | None]
"""The uid of what keeps a pod and how many pods that wants; None for a pod that nobody keeps."""


def covers(budget: JsonObject, pod: JsonObject) -> bool:
    """Whether a budget is about a pod of its Namespace. One without a selector is about none."""
    selector = (budget.get("spec") or {}).get("selector")
    return isinstance(selector, dict) and selects(selector, labels_of(pod))


def budget_status(budget: JsonObject, pods: Sequence[JsonObject], scale_of: ScaleOf, now_s: float) -> JsonObject:
    """The budget's ``status``; ``pods`` are those that it covers."""
    before = budget.get("status") or {}
    there = {object_name(pod): pod for pod in pods}
    evicted = {
        name: since
        for name, since in (before.get("disruptedPods") or {}).items()
        if name in there and not is_terminating(there[name]) and _expires_at(since) > now_s
    }
    healthy = sum(
        is_ready(pod) and not is_terminating(pod) and object_name(pod) not in evicted for pod in there.values()
    )
    expected, desired = _counts(budget, pods, scale_of)
    allowed = max(0, healthy - desired) if expected > 0 else 0
    reason = "SufficientPods" if allowed else "InsufficientPods"
    conditions = before.get("conditions") or []
    told = with_condition(conditions, "DisruptionAllowed", "True" if allowed else "False", reason, "", now_s)
    generation = budget["metadata"].get("generation", 1)
    return {
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": allowed,
        "expectedPods": expected,
        "observedGeneration": generation,
        "disruptedPods": evicted or None,
        "conditions": [
            {**each, "observedGeneration": generation} if each["type"] == "DisruptionAllowed" else each for each in told
        ],
    }


def look_again_at(status: JsonObject) -> float | None:
    """When an eviction that has led to nothing counts no more, in seconds since the epoch."""
    return min(map(_expires_at, (status.get("disruptedPods") or {}).values()), default=None)


def budget_problems(budget: JsonObject) -> Iterator[FieldProblem]:
    """What is wrong with a budget, beyond what the schemas say."""
    spec = budget.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        yield FieldProblem("spec", "minAvailable and maxUnavailable cannot be both set")
    for name in ("minAvailable", "maxUnavailable"):
        value = spec.get(name)
        if value is not None and (isinstance(value, bool) or not _LIMIT.fullmatch(str(value))):
            yield FieldProblem(f"spec.{name}", "is no limit", str(value), "a number of pods, or up to 100%")
    selector = spec.get("selector")
    if isinstance(selector, dict) and selector.get("matchExpressions"):
        yield from expression_problems(selector["matchExpressions"], "spec.selector.matchExpressions", OPERATORS)
    policy, known = spec.get("unhealthyPodEvictionPolicy"), ("IfHealthyBudget", "AlwaysAllow")
    if policy is not None and policy not in known:
        yield FieldProblem("spec.unhealthyPodEvictionPolicy", "is not a policy", str(policy), ", ".join(known))


def _counts(budget: JsonObject, pods: Sequence[JsonObject], scale_of: ScaleOf) -> tuple[int, int]:
    """How many pods are expected, and how many of them are to be healthy."""
    spec = budget.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    scaled = sum(dict(filter(None, map(scale_of, pods))).values())
    if most is not None:
        return scaled, max(0, scaled - _share(most, scaled))
    if isinstance(least, str) and least.endswith("%"):
        return scaled, _share(least, scaled)
    return len(pods), 1 if least is None else int(least)


def _share(value: int | str, total: int) -> int:
    """A number, or a percentage of ``total`` rounded up."""
    text = str(value)
    return -(-int(text[:-1]) * total // 100) if text.endswith("%") else int(text)


def _expires_at(since: object) -> float:
    return (seconds_of(since) or 0.0) + _EVICTION_S
