"""The loop that keeps the status of PodDisruptionBudgets true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.disruption_budgets import budget_status, covers, look_again_at
from testbed.cluster.kinds import POD_DISRUPTION_BUDGET
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.ownership import controller
from testbed.cluster.replica_sets import replicas_of
from testbed.cluster.store import Store

_Key = tuple[str, str]  # namespace and name
_SCALED = ("Deployment", "ReplicaSet", "StatefulSet")


class DisruptionLoop:
    """Told of budgets, pods and what keeps these, it counts."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store, self._clock = store, clock
        self._budgets: dict[str, dict[str, JsonObject]] = defaultdict(dict)  # by namespace and name, as the pods
        self._pods: dict[str, dict[str, JsonObject]] = defaultdict(dict)
        self._owners: dict[str, JsonObject] = {}  # by uid
        self._changed: dict[str, None] = {}  # namespaces to look at
        self._due: dict[_Key, float] = {}

    def put(self, wire: JsonObject) -> None:
        if (known := self._known(wire)) is not None:
            known[object_name(wire)] = wire
        elif wire["kind"] in _SCALED:
            self._owners[wire["metadata"]["uid"]] = wire
        else:
            return
        self._mark(wire)

    def remove(self, wire: JsonObject) -> None:
        if (known := self._known(wire)) is not None:
            known.pop(object_name(wire), None)
        elif wire["kind"] in _SCALED:
            self._owners.pop(wire["metadata"]["uid"], None)
        else:
            return
        self._mark(wire)

    def work(self) -> None:
        """Write what is to be written."""
        now_s = self._clock()
        changed, self._changed = self._changed, {}
        keys = {(namespace, name): None for namespace in changed for name in self._budgets[namespace]}
        keys |= {key: None for key, due in self._due.items() if due <= now_s}
        for key in keys:
            self._due.pop(key, None)
            if (budget := self._budgets[key[0]].get(key[1])) is not None:
                attempt(budget, lambda key=key, budget=budget: self._count(key, budget, now_s))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """When the next eviction that has led to nothing counts no more."""
        return min(self._due.values(), default=None)

    def _known(self, wire: JsonObject) -> dict[str, JsonObject] | None:
        match wire["kind"]:
            case "PodDisruptionBudget":
                return self._budgets[object_namespace(wire)]
            case "Pod":
                return self._pods[object_namespace(wire)]
        return None

    def _mark(self, wire: JsonObject) -> None:
        namespace = object_namespace(wire)
        if self._budgets.get(namespace):
            self._changed[namespace] = None

    def _count(self, key: _Key, budget: JsonObject, now_s: float) -> None:
        pods = [pod for pod in self._pods[key[0]].values() if covers(budget, pod)]
        status, there = budget_status(budget, pods, self._scale, now_s), budget.get("status") or {}
        if any(there.get(name) != value for name, value in status.items()):
            # An eviction that was counted meanwhile must not be lost.
            seen = {"resourceVersion": budget["metadata"]["resourceVersion"]}
            self._store.patch(POD_DISRUPTION_BUDGET, key[1], {"metadata": seen, "status": status}, key[0])
        if (again_at := look_again_at(status)) is not None:
            self._due[key] = again_at

    def _scale(self, pod: JsonObject) -> tuple[str, int] | None:
        """What keeps a pod: the Deployment rather than its ReplicaSet."""
        found: tuple[str, int] | None = None
        wire = pod
        for _ in range(2):  # no more: owners may go round
            owner = controller(wire)
            if owner is None or owner[1] not in self._owners:
                break
            wire = self._owners[owner[1]]
            found = owner[1], replicas_of(wire)
        return found
