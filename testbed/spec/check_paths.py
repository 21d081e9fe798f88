"""Checks of paths: that both ends are there and can meet, and that a Service has the port that a probe asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from testbed.cluster.objects import JsonObject, object_name, object_namespace, uses_host_network
from testbed.cluster.services import is_headless
from testbed.cluster.values import NODE_PORTS
from testbed.errors import Problem
from testbed.spec.check_network import BuiltFabric
from testbed.spec.endpoints import EndpointRef, ServiceRef, Target, parse_endpoint, parse_target, pod_reference
from testbed.spec.manifests import Manifest
from testbed.spec.manifests.ports import protocol_of
from testbed.spec.manifests.service import service_type
from testbed.spec.models import Path, Probe
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath


@dataclass(frozen=True)
class Surroundings:
    """What paths lead through and to.

    ``objects`` are those of the manifests with all that follows from them, or None when they are not all known: then
    what is missing may only be unsound, which is said elsewhere.
    """

    built: tuple[BuiltFabric, ...]
    objects: tuple[JsonObject, ...] | None
    modes: tuple[str, ...]

    def of_kind(self, kind: str) -> list[JsonObject]:
        return [wire for wire in self.objects or () if wire["kind"] == kind]


def surroundings(
    built: Sequence[BuiltFabric],
    objects: Sequence[JsonObject] | None,
    manifests: Sequence[Manifest],
    all_read: bool,
    modes: Sequence[str],
) -> Surroundings:
    """From one build's ``objects``; where they could not be made, from the manifests if these make no others."""
    if objects is None and all_read and all(manifest.kind == "Pod" for manifest in manifests):
        objects = [manifest.object for manifest in manifests]
    return Surroundings(tuple(built), None if objects is None or not all_read else tuple(objects), tuple(modes))


def path_problems(document: Document, paths: Mapping[str, Path], around: Surroundings) -> Iterator[Problem]:
    """Ends that are not there or cannot meet, and baselines that are no other path."""
    # Pods with addresses of their own, of which the fabric knows nothing in overlay mode.
    own = {pod_reference(pod) for pod in around.of_kind("Pod") if not uses_host_network(pod)}
    for name, path in paths.items():
        here: FieldPath = ("paths", name)
        source, target = parse_endpoint(path.source), parse_target(path.target)
        if source == target.endpoint:
            yield document.problem((*here, "to"), "is the same as from", path.target)
        yield from _endpoint_problems(document, (*here, "from"), source, around)
        if target.service is not None:
            yield from _service_problems(document, (*here, "to"), target.service, around)
            if source.kind == "ext" and target.service.address == "service":
                message = "an external host does not reach a cluster IP"
                allowed = "node/NODE:PORT with a node port, or loadbalancer/NAME:PORT"
                yield document.problem((*here, "to"), message, path.target, allowed)
        if target.endpoint is None:
            continue
        ends = {source, target.endpoint}
        yield from _endpoint_problems(document, (*here, "to"), target.endpoint, around)
        if {end.kind for end in ends} == {"ext"}:
            yield document.problem(here, "at least one end must be a pod or a node")
        elif "overlay" in around.modes and any(end.kind == "ext" for end in ends) and own & ends:
            message = "an external host and a pod do not reach each other in overlay mode"
            allowed = "modes: [routed], or a node or a hostNetwork pod instead of the pod"
            yield document.problem(here, message, allowed=allowed)


def _endpoint_problems(
    document: Document, path: FieldPath, end: EndpointRef, around: Surroundings
) -> Iterator[Problem]:
    if end.kind == "pod":
        if around.objects is None:
            return
        pods = [pod_reference(pod) for pod in around.of_kind("Pod")]
        if end not in pods:
            known = [str(pod) for pod in pods]
            message = f"no manifest has this pod{suggestion(str(end), known)}"
            yield document.problem(path, message, str(end), names_text(known) or "add the pod to manifests")
        return
    for fabric in around.built:
        known = [element.name for element in fabric.fabric.of_kind(end.kind)]
        if end.name not in known:
            what = "node" if end.kind == "node" else "external host"
            message = f"the topology has no such {what}{fabric.where}{suggestion(end.name, known)}"
            allowed = names_text(f"{end.kind}/{name}" for name in known)
            yield document.problem(path, message, str(end), allowed or "topology.parameters.ext adds external hosts")


def _service_problems(
    document: Document, path: FieldPath, wanted: ServiceRef, around: Surroundings
) -> Iterator[Problem]:
    if around.objects is None:
        return
    service = _find_service(wanted, around)
    if service is None:
        known = [str(_service_ref(wanted, each)) for each in around.of_kind("Service")]
        message = f"no manifest has this Service{suggestion(str(wanted), known)}"
        yield document.problem(path, message, str(wanted), names_text(known) or "add the Service to manifests")
        return
    kind = service_type(service["spec"])
    if not _has_address(service):
        what = "an ExternalName" if kind == "ExternalName" else "a headless"
        yield document.problem(path, f"{what} Service has no address of its own", str(wanted))
    elif wanted.address == "loadbalancer" and kind != "LoadBalancer":
        message = f"the Service is of type {kind}, so it has no load balancer's address"
        yield document.problem(path, message, str(wanted), f"service/{str(wanted).partition('/')[2]}")


def _has_address(service: JsonObject) -> bool:
    """Whether the Service has an address of its own."""
    return service_type(service["spec"]) != "ExternalName" and not is_headless(service)


def _service_ref(wanted: ServiceRef, service: JsonObject) -> ServiceRef:
    return ServiceRef(wanted.address, object_namespace(service), object_name(service))


def _find_service(wanted: ServiceRef, around: Surroundings) -> JsonObject | None:
    return next((each for each in around.of_kind("Service") if _service_ref(wanted, each) == wanted), None)


def probe_path_problems(
    document: Document, probes: Mapping[int, Probe], paths: Mapping[str, Path], around: Surroundings
) -> Iterator[Problem]:
    """Paths that a probe cannot be run on: the Service or node has no such port for its protocol."""
    for probe in probes.values():
        for name in (probe.paths or paths) if probe.takes_paths else ():
            if name in paths:
                field: FieldPath = ("paths", name, "to")
                message = _obstacle(probe, parse_target(paths[name].target), around)
                if message:
                    told, allowed = message
                    told = f"the probe {probe.label} cannot go here: {told}"
                    yield document.problem(field, told, paths[name].target, allowed)


def _obstacle(probe: Probe, target: Target, around: Surroundings) -> tuple[str, str] | None:
    """Why the probe cannot ask the target, and what it could; None when it can."""
    if probe.kind == "icmp_rtt" and target.service is not None:
        return "the address of a Service does not answer ping", "a pod or a node"
    ports = _ports(target, around)
    wanted = _protocols(probe)
    if ports is None or not wanted:
        return None
    if any(protocol in wanted and number == target.port for protocol, number in ports):
        return None
    listed = names_text(f"{number} ({protocol})" for protocol, number in sorted(ports))
    words = " or ".join(wanted)
    if target.service is not None:
        return f"the Service has no such {words} port", listed or "a port of the Service"
    return f"there is no Service with this {words} node port", listed or "a Service of type NodePort"


def _ports(target: Target, around: Surroundings) -> set[tuple[str, int]] | None:
    """Protocol and number of the ports that the target may be asked at; None where that cannot be known."""
    if around.objects is None:
        return None
    if target.service is not None:
        service = _find_service(target.service, around)
        if service is None or not _has_address(service):
            return None
        return {(protocol_of(entry), entry["port"]) for entry in service["spec"].get("ports") or ()}
    if target.endpoint is None or target.endpoint.kind != "node" or target.port not in NODE_PORTS:
        return None
    entries = (entry for each in around.of_kind("Service") for entry in each["spec"].get("ports") or ())
    return {(protocol_of(entry), entry["nodePort"]) for entry in entries if entry.get("nodePort")}


def _protocols(probe: Probe) -> tuple[str, ...]:
    """The protocols of which the target must have one; none where that is the user's own affair."""
    if probe.kind in ("tcp_rr", "tcp_crr", "http"):
        return ("TCP",)
    if probe.kind == "udp_rr":
        return ("UDP",)
    if probe.kind == "throughput":
        return (probe.protocol.upper(),)
    return ("UDP", "TCP") if probe.kind == "first_packet" else ()
