"""Which EndpointSlices a Service has: a pure function of the Service, its pods and the slices that are there.

As Kubernetes' endpointslice controller: an endpoint stays in the slice it is in, new ones fill slices that have room,
and only then there is a new slice. So a change of one pod changes one slice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready as is_ready  # others know it from here
from testbed.cluster.services import MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SKIP_MIRROR_LABEL, is_headless, selector_of

MANAGED_BY = "endpointslice-controller.testbed"
MIRRORED_BY = "endpointslicemirroring-controller.testbed"
HEADLESS_LABEL = "service.kubernetes.io/headless"

# Kubernetes' default of --max-endpoints-per-slice.
MAX_ENDPOINTS = 100

# What Kubernetes makes names from: no vowels, and nothing that is easily mistaken.
_NAME_CHARACTERS = "bcdfghjklmnpqrstvwxz2456789"

_Ports = tuple[tuple[str, str, int, str], ...]  # port name, protocol, target port, application protocol
_Groups = dict[_Ports, dict[str, JsonObject]]  # endpoints by what identifies them, by the ports that they share


class PodEndpoints:
    """The endpoints of one Service as it is, made anew only for pods that have changed since the last time."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[JsonObject, _Ports, JsonObject | None]] = {}  # by the pod's name

    def groups(self, service: JsonObject, pods: Iterable[JsonObject]) -> _Groups:
        """The endpoints of the pods that the Service selects, by the ports that they share."""
        selector = selector_of(service)
        publish_all = service["spec"].get("publishNotReadyAddresses") is True
        before, self._made = self._made, {}
        groups: _Groups = {}
        for pod in pods:
            name = pod["metadata"]["name"]
            known = before.get(name)
            if known is None or known[0] is not pod:
                if is_selected(pod, selector) and is_endpoint(pod):
                    known = pod, _pod_ports(pod, service), _pod_endpoint(pod, service, publish_all)
                else:
                    known = pod, (), None
            self._made[name] = known
            if known[2] is not None:
                groups.setdefault(known[1], {})[name] = known[2]
        return groups


def endpoint_slices(
    service: JsonObject,
    pods: Iterable[JsonObject],
    existing: Iterable[JsonObject] = (),
    endpoints: PodEndpoints | None = None,
) -> list[JsonObject]:
    """The slices that a Service with a selector should have, sorted by name.

    ``pods`` are at least those that the Service selects in its namespace. ``existing`` are its slices as they are; one
    that need not change is returned as it is. A Service without selector, or of the type ExternalName, has none.
    ``endpoints`` remembers what was made for the same Service before.
    """
    if not selector_of(service):
        return []
    groups = (PodEndpoints() if endpoints is None else endpoints).groups(service, pods)
    return _slices(service, MANAGED_BY, groups, existing)


def mirrored_slices(
    service: JsonObject, endpoints: JsonObject | None, existing: Iterable[JsonObject] = ()
) -> list[JsonObject]:
    """The slices for an Endpoints object that a person wrote for a Service without selector, unless a label says that
    there are others for it; sorted by name."""
    if selector_of(service) or endpoints is None:
        return []
    if (endpoints["metadata"].get("labels") or {}).get(SKIP_MIRROR_LABEL) == "true":
        return []
    groups: _Groups = {}
    for subset in endpoints.get("subsets") or ():
        ports = tuple(
            (entry.get("name", ""), entry.get("protocol", "TCP"), entry["port"], entry.get("appProtocol", ""))
            for entry in subset.get("ports") or ()
        )
        for field, ready in (("addresses", True), ("notReadyAddresses", False)):
            for address in subset.get(field) or ():
                endpoint = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
                endpoint |= {name: address[name] for name in ("nodeName", "targetRef", "hostname") if name in address}
                groups.setdefault(ports, {})[address["ip"]] = endpoint
    return _slices(service, MIRRORED_BY, groups, existing)


def is_selected(pod: JsonObject, selector: Mapping[str, str]) -> bool:
    """Whether a pod carries all the labels."""
    labels = pod["metadata"].get("labels") or {}
    for name, value in selector.items():  # noqa: SIM110 - all() with a generator takes three times as long
        if labels.get(name) != value:
            return False
    return True


def is_endpoint(pod: JsonObject) -> bool:
    """Whether a pod has an address and has not ended for good."""
    status = pod.get("status") or {}
    return bool(status.get("podIP")) and status.get("phase") not in ("Succeeded", "Failed")


def named_ports(pod: JsonObject) -> dict[tuple[str, str], int]:
    """The numbers of a pod's container ports that have a name, by name and protocol; the first of equal ones counts."""
    found: dict[tuple[str, str], int] = {}
    for container in pod["spec"].get("containers") or ():
        for entry in container.get("ports") or ():
            if entry.get("name"):
                found.setdefault((entry["name"], entry.get("protocol", "TCP")), entry["containerPort"])
    return found


def endpoint_facts(pod: JsonObject) -> tuple[Any, ...]:
    """Everything about a pod that its endpoints depend on: equal facts, equal slices."""
    spec, status, metadata = pod["spec"], pod.get("status") or {}, pod["metadata"]
    return (
        metadata.get("labels"),
        "deletionTimestamp" in metadata,
        is_endpoint(pod),
        is_ready(pod),
        status.get("podIP"),
        spec.get("nodeName"),
        spec.get("hostname"),
        spec.get("subdomain"),
        [container.get("ports") for container in spec.get("containers") or ()],
    )


def _pod_endpoint(pod: JsonObject, service: JsonObject, publish_all: bool) -> JsonObject:
    name, namespace, spec = object_name(pod), object_namespace(pod), pod["spec"]
    serving, terminating = is_ready(pod), "deletionTimestamp" in pod["metadata"]
    endpoint: JsonObject = {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {
            "ready": publish_all or (serving and not terminating),
            "serving": serving,
            "terminating": terminating,
        },
        "targetRef": {"kind": "Pod", "name": name, "namespace": namespace},
    }
    if spec.get("nodeName"):
        endpoint["nodeName"] = spec["nodeName"]
    if spec.get("hostname") and spec.get("subdomain") == object_name(service):
        endpoint["hostname"] = spec["hostname"]
    return endpoint


def _pod_ports(pod: JsonObject, service: JsonObject) -> _Ports:
    """The Service's ports as this pod has them; without those whose ``targetPort`` none of its containers has."""
    names: dict[tuple[str, str], int] | None = None
    found = []
    for entry in service["spec"].get("ports") or ():
        protocol = entry.get("protocol", "TCP")
        target: int | str | None = entry.get("targetPort") or entry["port"]
        if isinstance(target, str):
            names = named_ports(pod) if names is None else names
            target = names.get((target, protocol))
        if target is not None:
            found.append((entry.get("name", ""), protocol, target, entry.get("appProtocol", "")))
    return tuple(found)


def _slices(service: JsonObject, managed_by: str, groups: _Groups, existing: Iterable[JsonObject]) -> list[JsonObject]:
    there = sorted(existing, key=object_name)
    names = {object_name(wire) for wire in there}
    kept = [wire for wire in there if _is_managed(wire, managed_by)]
    result: list[JsonObject] = []
    for ports in sorted(groups):
        result += _group_slices(service, managed_by, ports, dict(sorted(groups[ports].items())), kept, names)
    return sorted(result, key=object_name)


def _group_slices(
    service: JsonObject,
    managed_by: str,
    ports: _Ports,
    endpoints: dict[str, JsonObject],
    kept: Sequence[JsonObject],
    names: set[str],
) -> list[JsonObject]:
    """The slices of the endpoints that have the same ports. New names are added to ``names``."""
    port_objects = [_port_object(*port) for port in ports]
    there = [wire for wire in kept if wire.get("ports") == port_objects]
    contents: list[tuple[str, list[JsonObject], JsonObject | None]] = []
    for wire in there:
        keys = [_endpoint_key(entry, managed_by) for entry in wire.get("endpoints") or ()]
        contents.append((object_name(wire), [endpoints.pop(key) for key in keys if key in endpoints], wire))
    new = list(endpoints.values())
    for _, entries, _ in contents:
        room = MAX_ENDPOINTS - len(entries)
        entries += new[:room]
        new = new[room:]
    for start in range(0, len(new), MAX_ENDPOINTS):
        name = _new_name(object_name(service), ports, names)
        names.add(name)
        contents.append((name, new[start : start + MAX_ENDPOINTS], None))
    slices = []
    for name, entries, before in contents:
        if entries:
            made = _slice_object(service, managed_by, name, port_objects, entries)
            slices.append(before if before is not None and _says_the_same(before, made) else made)
    return slices


def _slice_object(
    service: JsonObject, managed_by: str, name: str, ports: list[JsonObject], endpoints: list[JsonObject]
) -> JsonObject:
    labels = {SERVICE_NAME_LABEL: object_name(service), MANAGED_BY_LABEL: managed_by}
    if is_headless(service):
        labels[HEADLESS_LABEL] = ""
    owner = {"apiVersion": "v1", "kind": "Service", "name": object_name(service), "controller": True}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": name,
            "namespace": object_namespace(service),
            "labels": labels,
            "ownerReferences": [owner],
        },
        "addressType": "IPv6" if ":" in endpoints[0]["addresses"][0] else "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    }


def _port_object(name: str, protocol: str, target_port: int, app_protocol: str) -> JsonObject:
    application = {"appProtocol": app_protocol} if app_protocol else {}
    return {"name": name, "protocol": protocol, "port": target_port, **application}


def _endpoint_key(endpoint: JsonObject, managed_by: str) -> str:
    """What tells a slice's endpoints apart: the pod's name, or the address that a person wrote."""
    if managed_by == MANAGED_BY:
        return str((endpoint.get("targetRef") or {}).get("name"))
    return str(endpoint["addresses"][0])


def _is_managed(wire: JsonObject, managed_by: str) -> bool:
    return (wire["metadata"].get("labels") or {}).get(MANAGED_BY_LABEL) == managed_by


def _says_the_same(one: JsonObject, other: JsonObject) -> bool:
    return (
        all(one.get(part) == other.get(part) for part in ("addressType", "ports", "endpoints"))
        and one["metadata"].get("labels") == other["metadata"]["labels"]
    )


def _new_name(service_name: str, ports: _Ports, taken: set[str]) -> str:
    """Derived, so that equal input gives equal names: Kubernetes draws these five characters."""
    attempt = 0
    while (name := f"{service_name}-{safe_digest(json.dumps([ports, attempt]), 5)}") in taken:
        attempt += 1
    return name


def safe_digest(text: str, length: int) -> str:
    """Characters for the end of a name, derived from a text."""
    number = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    characters = []
    for _ in range(length):
        number, index = divmod(number, len(_NAME_CHARACTERS))
        characters.append(_NAME_CHARACTERS[index])
    return "".join(characters)
