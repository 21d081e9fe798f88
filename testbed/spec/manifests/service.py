"""v1 Service (https://kubernetes.io/docs/concepts/services-networking/service/).

Which addresses and node ports are free is not asked here: it depends on the other Services and on the experiment's
ranges (see :mod:`testbed.spec.check_services`).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from testbed.cluster.objects import JsonObject, is_valid_name
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_SUBDOMAIN_FORM
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import (
    DNS_1035_LABEL_FORM,
    is_dns_1035_label,
    label_problems,
    metadata_problems,
    one_of,
    within,
)
from testbed.spec.manifests.ports import (
    named_or_number_problems,
    number_problems,
    port_names_problems,
    protocol_of,
    protocol_problems,
)
from testbed.spec.source import FieldPath

_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_POLICIES = ("Cluster", "Local")
_LONGEST_AFFINITY_S = 86400  # a day, Kubernetes' limit

_SPEC_FIELDS: Fields = {
    **dict.fromkeys(("type", "selector", "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "externalName")),
    **dict.fromkeys(("sessionAffinity", "sessionAffinityConfig", "publishNotReadyAddresses")),
    **dict.fromkeys(("internalTrafficPolicy", "externalTrafficPolicy", "healthCheckNodePort", "loadBalancerIP")),
    "ports": dict.fromkeys(("name", "protocol", "port", "targetPort", "nodePort")),
}
FIELDS = object_fields(spec=_SPEC_FIELDS)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Service."""
    yield from metadata_problems(manifest, is_dns_1035_label, DNS_1035_LABEL_FORM)
    spec = manifest.spec
    yield from one_of(manifest, ("spec", "type"), spec.get("type"), _TYPES)
    yield from label_problems(manifest, ("spec", "selector"), spec.get("selector") or {})
    yield from _address_problems(manifest, spec)
    yield from _port_problems(manifest, spec)
    yield from _affinity_problems(manifest, spec)
    yield from _policy_problems(manifest, spec)


def is_headless(spec: JsonObject) -> bool:
    """Whether the Service has no address of its own, so that its name stands for its endpoints' addresses."""
    return spec.get("clusterIP") == "None"


def service_type(spec: JsonObject) -> str:
    """The Service's type, with Kubernetes' default."""
    return str(spec.get("type") or "ClusterIP")


def has_node_ports(spec: JsonObject) -> bool:
    """Whether every node answers for the Service."""
    return service_type(spec) in ("NodePort", "LoadBalancer")


def _address_problems(manifest: Manifest, spec: JsonObject) -> Iterator[Problem]:
    kind = service_type(spec)
    cluster_ip = spec.get("clusterIP")
    if kind == "ExternalName":
        if cluster_ip not in (None, "", "None"):
            yield manifest.problem(("spec", "clusterIP"), "has no place in an ExternalName Service", cluster_ip)
        name = str(spec.get("externalName") or "").removesuffix(".")
        if not name:
            yield manifest.problem(("spec", "externalName"), "is required in an ExternalName Service")
        elif not is_valid_name(name):
            yield manifest.problem(("spec", "externalName"), "is not a domain", name, DNS_SUBDOMAIN_FORM)
    elif cluster_ip == "None":
        if kind != "ClusterIP":
            allowed = "type ClusterIP, or leave clusterIP out"
            yield manifest.problem(("spec", "clusterIP"), f"a {kind} Service needs an address", "None", allowed)
    elif cluster_ip:
        yield from ipv4_problems(manifest, ("spec", "clusterIP"), cluster_ip)
    listed = spec.get("clusterIPs") or []
    if listed and listed != [cluster_ip]:
        allowed = "leave it out, or a list of clusterIP alone"
        yield manifest.problem(("spec", "clusterIPs"), "does not agree with clusterIP", listed, allowed)
    for index, family in enumerate(spec.get("ipFamilies") or ()):
        yield from one_of(manifest, ("spec", "ipFamilies", index), family, ("IPv4",))
    yield from one_of(
        manifest, ("spec", "ipFamilyPolicy"), spec.get("ipFamilyPolicy"), ("SingleStack", "PreferDualStack")
    )
    if spec.get("loadBalancerIP"):
        if kind != "LoadBalancer":
            yield manifest.problem(("spec", "loadBalancerIP"), f"has no place in a {kind} Service")
        yield from ipv4_problems(manifest, ("spec", "loadBalancerIP"), spec["loadBalancerIP"])


def ipv4_problems(manifest: Manifest, path: FieldPath, address: str) -> Iterator[Problem]:
    """An address that must be IPv4."""
    try:
        IPv4Address(address)
    except ValueError:
        yield manifest.problem(path, "is not an IPv4 address", address)


def _port_problems(manifest: Manifest, spec: JsonObject) -> Iterator[Problem]:
    ports = spec.get("ports") or []
    if not ports and not is_headless(spec) and service_type(spec) != "ExternalName":
        yield manifest.problem(("spec", "ports"), "a Service needs at least one port")
    yield from port_names_problems(manifest, ("spec", "ports"), ports)
    first: dict[tuple[str, int], int] = {}
    node_ports: dict[tuple[str, int], int] = {}
    for index, entry in enumerate(ports):
        path: FieldPath = ("spec", "ports", index)
        protocol, node_port = protocol_of(entry), entry.get("nodePort")
        yield from number_problems(manifest, (*path, "port"), entry["port"])
        yield from protocol_problems(manifest, path, entry)
        yield from named_or_number_problems(manifest, (*path, "targetPort"), entry.get("targetPort"))
        if first.setdefault((protocol, entry["port"]), index) != index:
            message = f"two ports are {protocol} {entry['port']}; the first is [{first[protocol, entry['port']]}]"
            yield manifest.problem((*path, "port"), message, entry["port"])
        if node_port is None:
            continue
        if not has_node_ports(spec):
            message = f"has no place in a {service_type(spec)} Service"
            yield manifest.problem((*path, "nodePort"), message, node_port, "type NodePort or LoadBalancer")
        elif node_ports.setdefault((protocol, node_port), index) != index:
            message = f"two ports have this {protocol} node port; the first is [{node_ports[protocol, node_port]}]"
            yield manifest.problem((*path, "nodePort"), message, node_port)


def _affinity_problems(manifest: Manifest, spec: JsonObject) -> Iterator[Problem]:
    affinity = spec.get("sessionAffinity") or "None"
    yield from one_of(manifest, ("spec", "sessionAffinity"), affinity, ("None", "ClientIP"))
    config = spec.get("sessionAffinityConfig")
    if config is None:
        return
    path: FieldPath = ("spec", "sessionAffinityConfig")
    if affinity == "None":
        yield manifest.problem(path, "has no place without sessionAffinity ClientIP")
    timeout_s = (config.get("clientIP") or {}).get("timeoutSeconds")
    yield from within(manifest, (*path, "clientIP", "timeoutSeconds"), timeout_s, 1, _LONGEST_AFFINITY_S)


def _policy_problems(manifest: Manifest, spec: JsonObject) -> Iterator[Problem]:
    for name in ("internalTrafficPolicy", "externalTrafficPolicy"):
        yield from one_of(manifest, ("spec", name), spec.get(name), _POLICIES)
    kind = service_type(spec)
    if "externalTrafficPolicy" in spec and not has_node_ports(spec):
        yield manifest.problem(("spec", "externalTrafficPolicy"), f"has no place in a {kind} Service")
    if spec.get("healthCheckNodePort") and not (
        kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    ):
        message = "has a place in a LoadBalancer Service with externalTrafficPolicy Local only"
        yield manifest.problem(("spec", "healthCheckNodePort"), message, spec["healthCheckNodePort"])
