"""Whether a pod may be on a node: node selectors, node affinity, taints and tolerations, by Kubernetes' rules
(https://kubernetes.io/docs/concepts/scheduling-eviction/)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from testbed.cluster.label_selectors import meets
from testbed.cluster.objects import JsonObject

NOT_READY_TAINT = "node.kubernetes.io/not-ready"
UNREACHABLE_TAINT = "node.kubernetes.io/unreachable"
UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"

# https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations
DAEMON_TOLERATIONS: list[JsonObject] = [
    *({"key": key, "operator": "Exists", "effect": "NoExecute"} for key in (NOT_READY_TAINT, UNREACHABLE_TAINT)),
    {"key": UNSCHEDULABLE_TAINT, "operator": "Exists", "effect": "NoSchedule"},
]


def matches_node(spec: JsonObject, node_name: str, labels: Mapping[str, str]) -> bool:
    """Whether a node has what a pod's ``nodeSelector`` and required node affinity ask for."""
    for name, value in (spec.get("nodeSelector") or {}).items():
        if labels.get(name) != value:
            return False
    terms = required_terms(spec)
    return terms is None or any(_matches_term(term, node_name, labels) for term in terms)


def required_terms(spec: JsonObject) -> list[JsonObject] | None:
    """The terms of a pod's required node affinity, of which one must be met; None without."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else list(required.get("nodeSelectorTerms") or ())


def _matches_term(term: JsonObject, node_name: str, labels: Mapping[str, str]) -> bool:
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False  # an empty term matches no node
    own = {"metadata.name": node_name}
    return all(meets(each, labels) for each in expressions) and all(meets(each, own) for each in fields)


def untolerated(spec: JsonObject, taints: Iterable[JsonObject], effects: tuple[str, ...]) -> Iterator[JsonObject]:
    """The taints of some effects that a pod does not tolerate."""
    tolerations = spec.get("tolerations") or ()
    for taint in taints:
        if taint.get("effect") in effects and not any(tolerates(each, taint) for each in tolerations):
            yield taint


def tolerates(toleration: JsonObject, taint: JsonObject) -> bool:
    """Whether one toleration covers one taint."""
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    key, exists = toleration.get("key"), toleration.get("operator") == "Exists"
    if not key:
        return exists
    return bool(key == taint.get("key") and (exists or (toleration.get("value") or "") == (taint.get("value") or "")))


def tolerated_s(spec: JsonObject, taint: JsonObject, default_s: float) -> float | None:
    """How long a pod may stay on a node with a ``NoExecute`` taint: None for ever, 0 not at all.

    Pods that say nothing about a node that is not ready or cannot be reached stay ``default_s``, as Kubernetes'
    admission gives them.
    """
    found = [each for each in spec.get("tolerations") or () if tolerates(each, taint)]
    if not found:
        return default_s if taint.get("key") in (NOT_READY_TAINT, UNREACHABLE_TAINT) else 0.0
    limits = [float(each["tolerationSeconds"]) for each in found if each.get("tolerationSeconds") is not None]
    return max(0.0, min(limits)) if limits else None


def taints_of(node: JsonObject) -> list[JsonObject]:
    """A node's taints; a cordoned one is as good as tainted."""
    spec = node.get("spec") or {}
    taints = list(spec.get("taints") or ())
    if spec.get("unschedulable") is True and all(taint.get("key") != UNSCHEDULABLE_TAINT for taint in taints):
        taints.append({"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"})
    return taints
