"""The loop that empties Namespaces that are being deleted, and then lets them go
(k8s.io/kubernetes/pkg/controller/namespace)."""

from __future__ import annotations

from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.conditions import with_condition
from testbed.cluster.kinds import KINDS, NAMESPACE, Kind
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.pod_facts import is_terminating
from testbed.cluster.store import Store


class NamespaceLoop:
    """Told of Namespaces and of what is in them, it deletes what is in those that are being deleted.

    It begins a moment after a deletion, as Kubernetes does: who deletes a whole manifest names the objects after the
    Namespace that they are in, and is to find them.
    """

    def __init__(self, store: Store, clock: Callable[[], float], settings: LoopSettings) -> None:
        self._store, self._clock, self._delay_s = store, clock, settings.namespace_delay_s
        self._ending: dict[str, JsonObject] = {}
        self._due: dict[str, float] = {}  # when to look at a Namespace, by its name

    def put(self, wire: JsonObject) -> None:
        if wire["kind"] != NAMESPACE.name:
            return
        name = object_name(wire)
        if not is_terminating(wire):
            self._forget(name)
        elif name not in self._ending:
            self._due[name] = self._clock() + self._delay_s
        if is_terminating(wire):
            self._ending[name] = wire

    def remove(self, wire: JsonObject) -> None:
        if wire["kind"] == NAMESPACE.name:
            self._forget(object_name(wire))
        elif (namespace := wire["metadata"].get("namespace")) in self._ending:
            self._due.setdefault(namespace, self._clock())

    def work(self) -> None:
        """Delete what is to be deleted, and let go what is empty."""
        now_s = self._clock()
        for name in [name for name, due in self._due.items() if due <= now_s]:
            del self._due[name]
            wire = self._ending[name]
            attempt(wire, lambda name=name, wire=wire: self._empty(name, wire))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """When the next Namespace is to be looked at."""
        return min(self._due.values(), default=None)

    def _forget(self, name: str) -> None:
        self._ending.pop(name, None)
        self._due.pop(name, None)

    def _empty(self, name: str, wire: JsonObject) -> None:
        for kind in KINDS:  # owners come before what they keep
            for each in self._content(kind, name):
                if not is_terminating(each):
                    attempt(each, lambda kind=kind, each=each: self._store.delete(kind, object_name(each), name))  # type: ignore[misc]
        left = {kind: found for kind in KINDS if (found := self._content(kind, name))}
        patch: JsonObject = {"metadata": {"uid": wire["metadata"]["uid"]}}
        if left:
            conditions = (wire.get("status") or {}).get("conditions") or []
            patch["status"] = {"conditions": self._conditions(conditions, left)}
        else:
            patch["spec"] = {"finalizers": None}
        self._store.patch(NAMESPACE, name, patch)

    def _content(self, kind: Kind, namespace: str) -> list[JsonObject]:
        if not kind.namespaced:
            return []
        return self._store.list(kind, lambda wire: wire["metadata"]["namespace"] == namespace).items

    def _conditions(self, there: list[JsonObject], left: dict[Kind, list[JsonObject]]) -> list[JsonObject]:
        """What the Namespace still waits for, in the words of Kubernetes' controller."""
        counts = [f"{kind.plural}.{kind.group} has {len(found)} resource instances" for kind, found in left.items()]
        finalizers: dict[str, int] = {}
        for each in (each for found in left.values() for each in found):
            for finalizer in each["metadata"].get("finalizers") or ():
                finalizers[finalizer] = finalizers.get(finalizer, 0) + 1
        waiting = [f"{finalizer} in {count} resource instances" for finalizer, count in sorted(finalizers.items())]
        remaining = "Some resources are remaining: " + ", ".join(counts)
        said = [("NamespaceContentRemaining", "True", "SomeResourcesRemain", remaining)]
        if waiting:
            text = "Some content in the namespace has finalizers remaining: " + ", ".join(waiting)
            said.append(("NamespaceFinalizersRemaining", "True", "SomeFinalizersRemain", text))
        else:
            text = "All content-preserving finalizers finished"
            said.append(("NamespaceFinalizersRemaining", "False", "ContentHasNoFinalizers", text))
        for condition in said:
            there = with_condition(there, *condition, self._clock())
        return there
