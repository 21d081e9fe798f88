"""What is wrong with Deployments and the other kinds that keep pods, their pods' template aside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from testbed.apiserver.checks.names import label_problems
from testbed.apiserver.checks.words import Problem, forbidden, invalid_value, not_negative, required, unsupported
from testbed.cluster.kinds import DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET, Kind
from testbed.cluster.label_selectors import OPERATORS, selects
from testbed.cluster.objects import JsonObject

_SELECTING = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET)
WITH_TEMPLATE = (*_SELECTING, JOB)
_NOT_NEGATIVE = (
    *("replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"),
    *("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished"),
)
_STRATEGIES = {
    DEPLOYMENT: ("strategy", ("RollingUpdate", "Recreate")),
    STATEFUL_SET: ("updateStrategy", ("RollingUpdate", "OnDelete")),
    DAEMON_SET: ("updateStrategy", ("RollingUpdate", "OnDelete")),
}
_STATEFUL_SET_MAY_CHANGE = (
    *("replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit"),
    *("persistentVolumeClaimRetentionPolicy", "minReadySeconds"),
)


def workload_problems(kind: Kind, wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with its numbers, its selector and its strategy."""
    if kind not in WITH_TEMPLATE:
        return
    spec = wire.get("spec") or {}
    yield from not_negative(spec, _NOT_NEGATIVE, "spec")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    at = "spec.template.metadata.labels"
    yield from label_problems(labels, at)
    if kind in _SELECTING:
        yield from _selector_problems(kind, spec.get("selector"), labels, at)
    yield from _restart_policy(kind, template.get("spec") or {})
    if kind in _STRATEGIES:
        name, choices = _STRATEGIES[kind]
        how = (spec.get(name) or {}).get("type", choices[0])
        if how not in choices:
            yield f"spec.{name}.type", unsupported(how, choices)


def _selector_problems(kind: Kind, selector: JsonObject | None, labels: JsonObject, at: str) -> Iterator[Problem]:
    selector = selector or {}
    wanted, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    wrong = [
        (
            f"spec.selector.matchExpressions[{index}].operator",
            invalid_value(each["operator"], "not a valid selector operator"),
        )
        for index, each in enumerate(expressions)
        if each.get("operator") not in (None, *OPERATORS)
    ]
    yield from wrong
    yield from label_problems(wanted, "spec.selector.matchLabels")
    if selector and not wanted and not expressions:
        yield "spec.selector", invalid_value({}, f"empty selector is invalid for {kind.name.lower()}")
    complete = all("key" in each and "operator" in each for each in expressions)
    if not wrong and complete and not ((wanted or expressions) and selects(selector, labels)):
        yield at, invalid_value(labels, "`selector` does not match template `labels`")


def _restart_policy(kind: Kind, pod_spec: JsonObject) -> Iterator[Problem]:
    policy, at = pod_spec.get("restartPolicy"), "spec.template.spec.restartPolicy"
    if kind is JOB:
        if policy not in ("OnFailure", "Never"):
            yield at, required('valid values: "OnFailure", "Never"')
    elif policy not in (None, "Always"):
        yield at, unsupported(policy, ("Always",))


def workload_change_problems(kind: Kind, new: JsonObject, old: JsonObject) -> Iterator[Problem]:
    """What of it cannot be changed."""
    now, before = new.get("spec") or {}, old.get("spec") or {}
    if kind is STATEFUL_SET:
        if any(now.get(name) != before.get(name) for name in {*now, *before} - {*_STATEFUL_SET_MAY_CHANGE}):
            *allowed, last = (f"'{name}'" for name in _STATEFUL_SET_MAY_CHANGE)
            text = f"updates to statefulset spec for fields other than {', '.join(allowed)} and {last} are forbidden"
            yield "spec", forbidden(text)
    elif kind in _SELECTING and now.get("selector") != before.get("selector"):
        yield "spec.selector", invalid_value(_flat(now.get("selector")), "field is immutable")
    elif kind is JOB and now.get("template") != before.get("template"):
        yield "spec.template", invalid_value(now.get("template"), "field is immutable")


def _flat(selector: Any) -> Any:
    """A selector without expressions as its labels alone."""
    return selector["matchLabels"] if isinstance(selector, dict) and set(selector) == {"matchLabels"} else selector
