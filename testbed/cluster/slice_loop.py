"""The loop that keeps the EndpointSlices of Services true."""

from __future__ import annotations

from collections import defaultdict

from testbed.cluster.attempt import attempt
from testbed.cluster.endpoint_slices import (
    MANAGED_BY,
    MIRRORED_BY,
    PodEndpoints,
    endpoint_facts,
    endpoint_slices,
    is_selected,
    mirrored_slices,
)
from testbed.cluster.kinds import ENDPOINT_SLICE
from testbed.cluster.label_index import PodIndex
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, selector_of
from testbed.cluster.store import Store

_Key = tuple[str, str]  # namespace and name


class SliceLoop:
    """Told of Services, Pods, Endpoints and EndpointSlices, it writes the slices that no longer fit.

    A pod concerns only the Services that select it; they are found by one label of each selector.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._services: dict[_Key, JsonObject] = {}
        self._by_label: dict[tuple[str, str, str], set[_Key]] = defaultdict(set)
        self._pods = PodIndex()
        self._facts: dict[_Key, tuple[object, ...]] = {}
        self._endpoints: dict[_Key, JsonObject] = {}
        self._slices: dict[_Key, dict[str, JsonObject]] = defaultdict(dict)  # by the Service they are for
        self._made: dict[_Key, PodEndpoints] = {}
        self._changed: dict[_Key, None] = {}  # Services to look at, in the order in which they changed

    def put(self, wire: JsonObject) -> None:
        key = object_namespace(wire), object_name(wire)
        match wire["kind"]:
            case "Pod":
                self._put_pod(key, wire)
            case "Service":
                self._forget_service(key)
                self._services[key] = wire
                if label := _index_label(wire):
                    self._by_label[label].add(key)
                self._changed[key] = None
            case "Endpoints":
                self._endpoints[key] = wire
                self._changed[key] = None
            case "EndpointSlice":
                self._put_slice(wire)

    def remove(self, wire: JsonObject) -> None:
        key = object_namespace(wire), object_name(wire)
        match wire["kind"]:
            case "Pod":
                self._mark_services_of(wire)
                self._pods.remove(wire)
                self._facts.pop(key, None)
            case "Service":
                self._forget_service(key)
                self._changed[key] = None
            case "Endpoints":
                self._endpoints.pop(key, None)
                self._changed[key] = None
            case "EndpointSlice":
                service_key = _service_key(wire)
                if self._slices[service_key].pop(object_name(wire), None) is not None and _is_managed(wire):
                    self._changed[service_key] = None

    def work(self) -> None:
        """Write what is to be written."""
        changed, self._changed = self._changed, {}
        for key in changed:
            service = self._services.get(key)
            if service is None:
                self._write(key, [])
            else:
                attempt(service, lambda key=key, service=service: self._write(key, self._wanted(key, service)))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None

    def _wanted(self, key: _Key, service: JsonObject) -> list[JsonObject]:
        existing = self._slices[key].values()
        if selector := selector_of(service):
            made = self._made.setdefault(key, PodEndpoints())
            return endpoint_slices(service, self._pods.candidates(key[0], selector), existing, made)
        return mirrored_slices(service, self._endpoints.get(key), existing)

    def _write(self, key: _Key, wanted: list[JsonObject]) -> None:
        existing = self._slices[key]
        left = {name for name, wire in existing.items() if _is_managed(wire)}
        for wire in wanted:
            name = object_name(wire)
            left.discard(name)
            if name not in existing:
                attempt(wire, lambda wire=wire: self._note(self._store.create(wire)))  # type: ignore[misc]
            elif existing[name] is not wire:
                attempt(wire, lambda wire=wire: self._note(self._store.replace(wire)))  # type: ignore[misc]
        for name in sorted(left):
            gone = existing.pop(name)
            attempt(gone, lambda name=name: self._store.delete(ENDPOINT_SLICE, name, key[0]))  # type: ignore[misc]

    def _note(self, written: JsonObject) -> None:
        """What was just written is known; its event will bring nothing new."""
        self._slices[_service_key(written)][object_name(written)] = written

    def _put_pod(self, key: _Key, pod: JsonObject) -> None:
        facts = endpoint_facts(pod)
        if self._facts.get(key) == facts:
            return
        if key in self._facts:
            self._mark_services_of(self._pods.get(key))
        self._facts[key] = facts
        self._pods.put(pod)
        self._mark_services_of(pod)

    def _mark_services_of(self, pod: JsonObject) -> None:
        namespace = object_namespace(pod)
        for label in (pod["metadata"].get("labels") or {}).items():
            for key in self._by_label.get((namespace, *label), ()):
                if is_selected(pod, selector_of(self._services[key])):
                    self._changed[key] = None

    def _put_slice(self, wire: JsonObject) -> None:
        key, name = _service_key(wire), object_name(wire)
        known = self._slices[key].get(name)
        self._slices[key][name] = wire
        if known is not wire and _is_managed(wire):
            self._changed[key] = None

    def _forget_service(self, key: _Key) -> None:
        known = self._services.pop(key, None)
        self._made.pop(key, None)
        if known is not None and (label := _index_label(known)):
            self._by_label[label].discard(key)


def _index_label(service: JsonObject) -> tuple[str, str, str] | None:
    """The label by which a Service is found."""
    selector = selector_of(service)
    return (object_namespace(service), *min(selector.items())) if selector else None


def _service_key(wire: JsonObject) -> _Key:
    return object_namespace(wire), (wire["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")


def _is_managed(wire: JsonObject) -> bool:
    return (wire["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) in (MANAGED_BY, MIRRORED_BY)
