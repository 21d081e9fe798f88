"""The loop that gives pods their node, address and bridge port: the scheduler and the address management of a CNI."""

from __future__ import annotations

import time
from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.conditions import with_condition
from testbed.cluster.events import EventRecorder
from testbed.cluster.kinds import POD
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key, uses_host_network
from testbed.cluster.pod_facts import is_active, is_finished
from testbed.cluster.pod_ledger import PodLedger, PodRefused
from testbed.cluster.store import Store
from testbed.cluster.view import node_network, pod_network


class Binder:
    """Told of Nodes and Pods, it completes the pods that lack something.

    One that finds no place is marked ``Unschedulable`` and tried again when a pod has gone or a node has changed.
    """

    def __init__(self, store: Store, recorder: Callable[[str], EventRecorder]) -> None:
        self._store, self._events = store, recorder("default-scheduler")
        self._ledger = PodLedger()
        self._pods: dict[str, JsonObject] = {}
        self._to_do: dict[str, None] = {}
        self._refused: dict[str, None] = {}

    def put(self, wire: JsonObject) -> None:
        if wire["kind"] == "Node":
            if node_network(wire) is not None:
                self._ledger.add_node(wire)
                self._try_again()
        elif wire["kind"] == "Pod":
            self._put_pod(pod_key(wire), wire)

    def remove(self, wire: JsonObject) -> None:
        if wire["kind"] == "Node":
            self._ledger.remove_node(object_name(wire))
        elif wire["kind"] == "Pod":
            key = pod_key(wire)
            for known in (self._pods, self._to_do, self._refused):
                known.pop(key, None)
            self._ledger.release(key)
            self._try_again()

    def work(self) -> None:
        """Bind what can be bound."""
        to_do, self._to_do = self._to_do, {}
        for key in to_do:
            pod = self._pods[key]
            attempt(pod, lambda key=key, pod=pod: self._bind(key, pod))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None

    def _put_pod(self, key: str, pod: JsonObject) -> None:
        before = self._pods.get(key)
        self._pods[key] = pod
        if not is_bound(pod) and is_active(pod):
            if before is None or before["spec"] != pod["spec"] or is_bound(before):
                self._ledger.release(key)
                self._refused.pop(key, None)
                self._to_do[key] = None
            return
        has_ended = before is not None and is_finished(pod) and not is_finished(before)
        if before is None or key not in self._ledger or pod_network(before) != pod_network(pod) or has_ended:
            self._to_do.pop(key, None)
            self._ledger.occupy(pod)
        if has_ended:
            self._try_again()

    def _try_again(self) -> None:
        self._to_do |= self._refused
        self._refused.clear()

    def _bind(self, key: str, pod: JsonObject) -> None:
        name, namespace = object_name(pod), object_namespace(pod)
        try:
            bound = self._ledger.assign(pod)
        except PodRefused as refused:
            self._refused[key] = None
            conditions = _scheduled(pod, "False", "Unschedulable", refused.message)
            status = {"phase": "Pending", "conditions": conditions}
            self._store.patch(POD, name, {"status": status}, namespace)
            self._events.record(pod, "Warning", "FailedScheduling", refused.message)
            return
        node_name = bound["spec"]["nodeName"]
        patch = {
            "metadata": {"annotations": bound["metadata"].get("annotations") or {}, "uid": pod["metadata"]["uid"]},
            "spec": {"nodeName": node_name},
            "status": {**bound["status"], "conditions": _scheduled(pod, "True")},
        }
        try:
            self._store.patch(POD, name, patch, namespace)
        except BaseException:
            self._ledger.release(key)
            raise
        if not pod["spec"].get("nodeName"):
            message = f"Successfully assigned {namespace}/{name} to {node_name}"
            self._events.record(pod, "Normal", "Scheduled", message)


def is_bound(pod: JsonObject) -> bool:
    """Whether a pod has everything that starting it needs."""
    if uses_host_network(pod):
        return bool(pod["spec"].get("nodeName")) and bool((pod.get("status") or {}).get("podIP"))
    return pod_network(pod) is not None


def _scheduled(pod: JsonObject, status: str, reason: str = "", message: str = "") -> list[JsonObject]:
    there = (pod.get("status") or {}).get("conditions") or ()
    conditions = with_condition(there, "PodScheduled", status, reason, message, time.time())
    return [{name: value for name, value in entry.items() if value} for entry in conditions]
