"""Whether a pod may be evicted, as the API server decides it by the PodDisruptionBudgets
(k8s.io/kubernetes/pkg/registry/core/pod/storage/eviction.go)."""

from __future__ import annotations

import time

from testbed.cluster.disruption_budgets import covers
from testbed.cluster.kinds import POD_DISRUPTION_BUDGET
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready, is_terminating
from testbed.cluster.status import ApiError, Conflict, Forbidden, NotFound, TooManyRequests
from testbed.cluster.store import Store
from testbed.cluster.timestamps import timestamp

_REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."


def count_eviction(store: Store, pod: JsonObject, *, dry_run: bool = False) -> None:
    """Have the budget that covers a pod count its eviction. Raises TooManyRequests when there may be none now, ApiError
    when two budgets cover it."""
    if is_terminating(pod) or (pod.get("status") or {}).get("phase") != "Running":
        return
    namespace = object_namespace(pod)
    while True:
        budgets = store.list(
            POD_DISRUPTION_BUDGET, lambda wire: object_namespace(wire) == namespace and covers(wire, pod)
        ).items
        if not budgets:
            return
        if len(budgets) > 1:
            text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
            raise ApiError(text)
        counted = _counted(budgets[0], pod)
        try:
            if counted is not None:
                store.replace(counted, dry_run=dry_run)
            return
        except (Conflict, NotFound):  # it has changed meanwhile
            continue


def _counted(budget: JsonObject, pod: JsonObject) -> JsonObject | None:
    """The budget with one eviction less left; None when the pod does not count."""
    status, spec, name = budget.get("status") or {}, budget.get("spec") or {}, object_name(budget)
    healthy, desired = int(status.get("currentHealthy", 0)), int(status.get("desiredHealthy", 0))
    if not is_ready(pod) and (spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow" or healthy >= desired > 0):
        return None
    if int(status.get("observedGeneration", 0)) < budget["metadata"].get("generation", 1):
        raise _refusal(f"The disruption budget {name} is still being processed by the server.")
    allowed = int(status.get("disruptionsAllowed", 0))
    if allowed < 0:
        raise Forbidden(f'poddisruptionbudgets.policy "{name}" is forbidden: pdb disruptions allowed is negative')
    if allowed == 0:
        raise _refusal(f"The disruption budget {name} needs {desired} healthy pods and has {healthy} currently")
    evicted = {**(status.get("disruptedPods") or {}), object_name(pod): timestamp(time.time())}
    return {**budget, "status": {**status, "disruptionsAllowed": allowed - 1, "disruptedPods": evicted}}


def _refusal(why: str) -> TooManyRequests:
    return TooManyRequests(_REFUSED, {"causes": [{"reason": "DisruptionBudget", "message": why}]})
