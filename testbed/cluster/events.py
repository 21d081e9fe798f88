"""What the cluster tells of what it did: Events, as ``kubectl describe`` shows them.

The wire form is core/v1 (https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/). The same
thing said again about the same object raises ``count`` instead of making another Event. What differs only in its
message is combined after 25 of a kind (with Kubernetes' clients after ten): 500 new pods are not 500 Events of a
ReplicaSet.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from contextlib import suppress
from typing import Literal

from testbed.cluster.kinds import EVENT
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, object_name
from testbed.cluster.status import AlreadyExists, Forbidden, NotFound
from testbed.cluster.store import Store
from testbed.cluster.timestamps import timestamp

EventType = Literal["Normal", "Warning"]

_COMBINED_AFTER = 25
_COMBINED = "(combined from similar events): "
# An Event's name is that of its object and a moment in 16 digits, together no more than the 253 of any name.
_NAME_PART = 253 - len(".") - 16
_KEPT = 2000  # Events of one recorder; what is older is deleted, as Kubernetes does after an hour


class EventRecorder:
    """Writes the Events of one component (``kubelet``, ``deployment-controller``, ...) into the store. Thread-safe."""

    def __init__(self, store: Store, component: str) -> None:
        self._store, self._component = store, component
        self._lock = threading.Lock()
        # (involved uid or name, type, reason, message) -> (namespace, name, count), oldest first
        self._known: OrderedDict[tuple[str, str, str, str], tuple[str, str, int]] = OrderedDict()
        self._similar: Counter[tuple[str, str, str]] = Counter()  # of those, how many differ in their message only

    def record(self, involved: JsonObject, event_type: EventType, reason: str, message: str) -> None:
        """Say something about an object; ``reason`` is one word in CamelCase, ``message`` a sentence."""
        metadata = involved["metadata"]
        similar = f"{involved['kind']}/{metadata.get('uid') or object_name(involved)}", event_type, reason
        now = timestamp(time.time())
        with self._lock:
            key = (*similar, message)
            if key not in self._known and self._similar[similar] >= _COMBINED_AFTER:
                key, message = (*similar, _COMBINED), _COMBINED + message
            if key in self._known:
                namespace, name, count = self._known[key]
                self._known[key] = namespace, name, count + 1
                self._known.move_to_end(key)
                patch = {"message": message, "count": count + 1, "lastTimestamp": now}
                with suppress(NotFound):  # deleted by a person, or with its Namespace
                    self._store.patch(EVENT, name, patch, namespace)
                    return
            namespace = metadata.get("namespace") or DEFAULT_NAMESPACE
            event = self._event(involved, event_type, reason, message, namespace, now)
            try:
                name = self._create(event)
            except (Forbidden, NotFound):  # its Namespace is being deleted, or is gone
                return
            self._similar[similar] += key not in self._known
            self._known[key] = namespace, name, 1
            if len(self._known) > _KEPT:
                self._forget_oldest()

    def _create(self, event: JsonObject) -> str:
        """Write a new Event; its name, by which those of one object are sorted as they came."""
        moment_ns = time.time_ns()
        about = event["involvedObject"]["name"][:_NAME_PART].rstrip("-.")
        while True:
            event["metadata"]["name"] = name = f"{about}.{moment_ns:x}"
            try:
                self._store.create(event)
                return name
            except AlreadyExists:  # another recorder's, of the same moment
                moment_ns += 1

    def _forget_oldest(self) -> None:
        (involved, event_type, reason, _), (namespace, name, _) = self._known.popitem(last=False)
        similar = involved, event_type, reason
        self._similar[similar] -= 1
        if not self._similar[similar]:
            del self._similar[similar]
        with suppress(NotFound):
            self._store.delete(EVENT, name, namespace)

    def _event(
        self,
        involved: JsonObject,
        event_type: EventType,
        reason: str,
        message: str,
        namespace: str,
        now: str,
    ) -> JsonObject:
        metadata = involved["metadata"]
        reference = {
            "apiVersion": involved.get("apiVersion", ""),
            "kind": involved["kind"],
            "name": metadata["name"],
            **{field: metadata[field] for field in ("namespace", "uid", "resourceVersion") if metadata.get(field)},
        }
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"namespace": namespace},
            "involvedObject": reference,
            "type": event_type,
            "reason": reason,
            "message": message,
            "count": 1,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": self._component},
            "reportingComponent": self._component,
            "reportingInstance": "",
        }
