"""Checks of Services against the pods and slices of the same manifests: who stands behind which port."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from testbed.cluster.objects import JsonObject
from testbed.cluster.service_allocation import ServiceAllocator
from testbed.cluster.services import SERVICE_NAME_LABEL, is_headless, selector_of
from testbed.cluster.values import MAX_GROUP_ENDPOINTS, MAX_GROUP_ENDPOINTS_WITH_AFFINITY, NetworkConfig
from testbed.errors import Problem
from testbed.spec.events import Scale
from testbed.spec.manifests import Manifest, pod_template, replica_count
from testbed.spec.manifests.ports import protocol_of
from testbed.spec.manifests.service import service_type
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import FieldPath


@dataclass(frozen=True)
class _Pods:
    """Pods that are alike: one of a manifest, or those that a template makes. ``most``: how many at the most."""

    namespace: str
    labels: Mapping[str, str]
    ports: tuple[JsonObject, ...]
    most: int


def allocation_problems(manifests: Sequence[Manifest], config: NetworkConfig) -> dict[int, list[Problem]]:
    """Services that the cluster would refuse, because addresses or node ports are out of range or taken: the position
    of the manifest, and what is wrong with it."""
    positions = [position for position, manifest in enumerate(manifests) if manifest.kind == "Service"]
    copies = [deepcopy(manifests[position].object) for position in positions]
    refused = ServiceAllocator(config).admit_all(copies)
    return {
        positions[index]: [manifests[positions[index]].refusal(problem) for problem in error.problems]
        for index, error in refused.items()
    }


def service_problems(
    manifests: Sequence[Manifest], proxies: Sequence[str], scales: Sequence[Scale]
) -> Iterator[Problem]:
    """Ports that no selected pod has, and more endpoints than a group can hold.

    ``scales`` are those of the experiment's events, which can make more pods than the manifests do.
    """
    pods = list(_all_pods(manifests, scales))
    listed = _listed_endpoints(manifests)
    for manifest in _services(manifests):
        if service_type(manifest.spec) == "ExternalName":
            continue
        selected = _selected(manifest, pods)
        if selected:
            yield from _target_port_problems(manifest, selected)
        # A name without an address is not balanced.
        if "openflow" in proxies and not is_headless(manifest.object):
            yield from _group_problems(manifest, selected, listed)


def _group_problems(
    service: Manifest, selected: Sequence[_Pods], listed: Mapping[tuple[str, str], int]
) -> Iterator[Problem]:
    if selector_of(service.object):
        path: FieldPath = ("spec", "selector")
        count = sum(each.most for each in selected)
    else:
        path = ("metadata", "name")
        count = listed.get((service.namespace, service.name), 0)
    affinity = service.spec.get("sessionAffinity") == "ClientIP"
    most = MAX_GROUP_ENDPOINTS_WITH_AFFINITY if affinity else MAX_GROUP_ENDPOINTS
    if count > most:
        message = f"more endpoints than a group in an OpenFlow message can hold ({service.title})"
        allowed = f"at most {most} with the proxy openflow{' and session affinity' if affinity else ''}"
        yield service.problem(path, message, f"{count} endpoints", allowed)


def service_warnings(manifests: Sequence[Manifest]) -> Iterator[str]:
    """What is fine in Kubernetes and probably not meant: Services and slices that find nobody."""
    pods = list(_all_pods(manifests, ()))
    services = {(manifest.namespace, manifest.name): manifest for manifest in _services(manifests)}
    for manifest in services.values():
        selector = selector_of(manifest.object)
        if selector and not _selected(manifest, pods):
            yield str(manifest.problem(("spec", "selector"), "no pod of the manifests has these labels", selector))
    for manifest in manifests:
        owner = manifest.owner
        if owner is None:
            continue
        path: FieldPath = ("metadata", "name") if manifest.kind == "Endpoints" else ("metadata", "labels")
        service = services.get(owner)
        if not owner[1]:
            message = f"has no effect without the label {SERVICE_NAME_LABEL}, which names the Service"
            yield str(manifest.problem(path, message))
        elif service is None:
            message = f"has no effect: there is no Service {owner[1]} in namespace {owner[0]}"
            yield str(manifest.problem(path, message))
        elif manifest.kind == "Endpoints" and selector_of(service.object):
            message = f"has no effect: the Service {owner[1]} has a selector, so its endpoints are the pods it selects"
            yield str(manifest.problem(path, message))


def _services(manifests: Sequence[Manifest]) -> Iterator[Manifest]:
    return (manifest for manifest in manifests if manifest.kind == "Service")


def _all_pods(manifests: Sequence[Manifest], scales: Sequence[Scale]) -> Iterator[_Pods]:
    for manifest in manifests:
        found = pod_template(manifest)
        if found is None:
            continue
        template = found[1]
        # A Deployment's pods are in its namespace, whatever its template says.
        wanted = [
            scale.replicas
            for scale in scales
            if manifest.kind == "Deployment"
            and (scale.namespace, scale.deployment) == (manifest.namespace, manifest.name)
        ]
        ports = [entry for each in template["spec"]["containers"] for entry in each.get("ports") or ()]
        labels = (template.get("metadata") or {}).get("labels") or {}
        yield _Pods(manifest.namespace, labels, tuple(ports), max([replica_count(manifest), *wanted]))


def _selected(service: Manifest, pods: Sequence[_Pods]) -> list[_Pods]:
    """The pods behind a Service; none for one without a selector."""
    selector = selector_of(service.object)
    if not selector:
        return []
    return [each for each in pods if each.namespace == service.namespace and selector.items() <= each.labels.items()]


def _target_port_problems(service: Manifest, selected: Sequence[_Pods]) -> Iterator[Problem]:
    for index, entry in enumerate(service.spec.get("ports") or ()):
        name, protocol = entry.get("targetPort"), protocol_of(entry)
        if not isinstance(name, str):
            continue
        named = [port for each in selected for port in each.ports if port.get("name")]
        if any(port["name"] == name and protocol_of(port) == protocol for port in named):
            continue
        others = sorted({protocol_of(port) for port in named if port["name"] == name})
        known = sorted({port["name"] for port in named if protocol_of(port) == protocol})
        message = f"no container of the selected pods has a {protocol} port of this name ({service.title})"
        message += f", but one has it for {names_text(others)}" if others else suggestion(name, known)
        allowed = names_text(known) or f"a number: their containers name no {protocol} port"
        yield service.problem(("spec", "ports", index, "targetPort"), message, name, allowed)


def _listed_endpoints(manifests: Sequence[Manifest]) -> dict[tuple[str, str], int]:
    """Namespace and name of a Service to how many endpoints EndpointSlices and Endpoints give one of its ports."""
    sizes: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for manifest in manifests:
        if manifest.owner is None:
            continue
        wire = manifest.object
        parts = [(wire.get("ports") or (), len(wire.get("endpoints") or ()))]
        for subset in wire.get("subsets") or ():
            count = sum(len(subset.get(name) or ()) for name in ("addresses", "notReadyAddresses"))
            parts.append((subset.get("ports") or (), count))
        for ports, count in parts:
            sizes[manifest.owner].update({entry.get("name") or "": count for entry in ports})
    return {owner: max(by_port.values(), default=0) for owner, by_port in sizes.items()}
