"""The loop that keeps the Endpoints of Services true: what their EndpointSlices say, in the older form.

Nothing in the testbed reads them; people do (``kubectl get endpoints``), and clients from before EndpointSlices.
https://kubernetes.io/docs/concepts/services-networking/service/#endpoints
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from ipaddress import ip_address

from testbed.cluster.attempt import attempt
from testbed.cluster.endpoint_slices import HEADLESS_LABEL, MANAGED_BY
from testbed.cluster.kinds import ENDPOINTS
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, is_headless, selector_of
from testbed.cluster.store import Store

# An Endpoints object holds no more addresses, and says so when there are.
MAX_ADDRESSES = 1000
_OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"

_Key = tuple[str, str]  # namespace and name


class EndpointsLoop:
    """Told of Services, EndpointSlices and Endpoints, it writes the Endpoints that no longer fit.

    Those of a Service without selector are a person's own.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._services: dict[_Key, JsonObject] = {}
        self._slices: dict[_Key, dict[str, JsonObject]] = defaultdict(dict)
        self._endpoints: dict[_Key, JsonObject] = {}
        self._changed: dict[_Key, None] = {}

    def put(self, wire: JsonObject) -> None:
        match wire["kind"]:
            case "Service":
                key = _key(wire)
                self._services[key] = wire
                self._changed[key] = None
            case "EndpointSlice" if (service_key := _service_key(wire)) is not None:
                self._slices[service_key][object_name(wire)] = wire
                self._changed[service_key] = None
            case "Endpoints":
                key = _key(wire)
                if self._endpoints.get(key) is not wire:
                    self._endpoints[key] = wire
                    self._changed[key] = None

    def remove(self, wire: JsonObject) -> None:
        match wire["kind"]:
            case "Service":
                key = _key(wire)
                self._services.pop(key, None)
                if key in self._endpoints:
                    attempt(wire, lambda: self._store.delete(ENDPOINTS, key[1], key[0]))
            case "EndpointSlice" if (service_key := _service_key(wire)) is not None:
                self._slices[service_key].pop(object_name(wire), None)
                self._changed[service_key] = None
            case "Endpoints":
                key = _key(wire)
                self._endpoints.pop(key, None)
                self._changed[key] = None

    def work(self) -> None:
        """Write what is to be written."""
        changed, self._changed = self._changed, {}
        for key in changed:
            service = self._services.get(key)
            if service is not None and selector_of(service):
                attempt(service, lambda key=key, service=service: self._write(key, service))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """Nothing here is a matter of time."""
        return None

    def _write(self, key: _Key, service: JsonObject) -> None:
        wanted = endpoints_of(service, self._slices[key].values())
        there = self._endpoints.get(key)
        if there is None:
            self._endpoints[key] = self._store.create(wanted)
        elif not _says_the_same(there, wanted):
            self._endpoints[key] = self._store.replace(wanted)


def endpoints_of(service: JsonObject, slices: Iterable[JsonObject]) -> JsonObject:
    """The Endpoints object of a Service with a selector: the addresses of its slices, by the ports that they share."""
    subsets, left = [], MAX_ADDRESSES
    by_ports: dict[tuple[tuple[str, str, int, str], ...], list[JsonObject]] = defaultdict(list)
    for wire in slices:
        ports = tuple(
            (entry["name"], entry["protocol"], entry["port"], entry.get("appProtocol", "")) for entry in wire["ports"]
        )
        by_ports[ports] += wire["endpoints"]
    total = 0
    for ports in sorted(by_ports):
        ready, not_ready = [], []
        for endpoint in sorted(by_ports[ports], key=lambda endpoint: ip_address(endpoint["addresses"][0])):
            conditions = endpoint["conditions"]
            if conditions["ready"]:
                ready.append(_address(endpoint))
            elif not conditions["terminating"]:
                not_ready.append(_address(endpoint))
        total += len(ready) + len(not_ready)
        ready = ready[:left]
        not_ready = not_ready[: left - len(ready)]
        left -= len(ready) + len(not_ready)
        if ready or not_ready:
            lists = {"addresses": ready, "notReadyAddresses": not_ready}
            subset: JsonObject = {name: addresses for name, addresses in lists.items() if addresses}
            if ports:
                subset["ports"] = [_port(*port) for port in ports]
            subsets.append(subset)
    labels = dict(service["metadata"].get("labels") or {})
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    metadata: JsonObject = {"name": object_name(service), "namespace": object_namespace(service)}
    if labels:
        metadata["labels"] = labels
    if total > MAX_ADDRESSES:
        metadata["annotations"] = {_OVER_CAPACITY: "truncated"}
    made: JsonObject = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    return {**made, "subsets": subsets} if subsets else made


def _address(endpoint: JsonObject) -> JsonObject:
    named: JsonObject = {name: endpoint[name] for name in ("hostname", "nodeName", "targetRef") if name in endpoint}
    return {"ip": endpoint["addresses"][0], **named}


def _port(name: str, protocol: str, number: int, app_protocol: str) -> JsonObject:
    port: JsonObject = {"name": name} if name else {}
    port |= {"port": number, "protocol": protocol}
    return {**port, "appProtocol": app_protocol} if app_protocol else port


def _key(wire: JsonObject) -> _Key:
    return object_namespace(wire), object_name(wire)


def _service_key(wire: JsonObject) -> _Key | None:
    """The Service that a slice of the cluster's own making is for."""
    labels = wire["metadata"].get("labels") or {}
    if labels.get(MANAGED_BY_LABEL) != MANAGED_BY:
        return None
    return object_namespace(wire), labels.get(SERVICE_NAME_LABEL, "")


def _says_the_same(one: JsonObject, other: JsonObject) -> bool:
    return (one.get("subsets") or []) == (other.get("subsets") or []) and all(
        (one["metadata"].get(part) or {}) == (other["metadata"].get(part) or {}) for part in ("labels", "annotations")
    )
