"""What a Service may say, what it means when it says nothing, and what it keeps when it is changed.

The rules are those of the Kubernetes API server (https://kubernetes.io/docs/reference/kubernetes-api/service-resources/
service-v1/, and the ``Validate``, ``SetDefaults`` and ``patchAllocatedValues`` steps for Services), for a cluster of
one IP version.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import Any, TypeGuard

from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.objects import JsonObject, is_valid_name
from testbed.cluster.service_view import DEFAULT_AFFINITY_TIMEOUT_S
from testbed.cluster.services import is_headless
from testbed.cluster.values import NODE_PORTS, PROTOCOLS, IPNetwork

SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_EXTERNAL_TYPES = ("NodePort", "LoadBalancer")
_POLICIES = ("Cluster", "Local")
_AFFINITIES = ("None", "ClientIP")
_MAX_AFFINITY_TIMEOUT_S = 86400
_NODE_PORTS_TEXT = f"{NODE_PORTS.start}-{NODE_PORTS.stop - 1}"

# RFC 1035: a Service's name becomes a DNS label that begins with a letter.
_SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# RFC 6335 section 5.1, as Kubernetes has it for the names of containers' ports.
_TARGET_PORT_NAME = re.compile(r"(?=[a-z0-9-]{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")


def keep_what_is_allocated(new: JsonObject, old: JsonObject) -> None:
    """Fill in, from the Service as it was, what the new one leaves out but goes on to have; and take away what it still
    says but can no longer have, because its type has changed."""
    spec, was = new["spec"], old["spec"]
    if _needs_cluster_ip(was) and _needs_cluster_ip(spec):
        if not spec.get("clusterIP") and not spec.get("clusterIPs"):
            spec["clusterIP"] = was["clusterIP"]
    elif spec.get("clusterIP") == was.get("clusterIP"):
        for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"):
            spec.pop(name, None)
    if spec.get("clusterIP") and spec.get("clusterIPs") == was.get("clusterIPs"):
        spec.pop("clusterIPs", None)  # derived anew
    _keep_node_ports(spec, was)
    if _is_external(was) and not _is_external(spec):
        for name in ("externalTrafficPolicy", "allocateLoadBalancerNodePorts"):
            if spec.get(name) == was.get(name):
                spec.pop(name, None)
    if needs_health_check(was):
        if needs_health_check(spec):
            spec.setdefault("healthCheckNodePort", was.get("healthCheckNodePort"))
        elif spec.get("healthCheckNodePort") == was.get("healthCheckNodePort"):
            spec.pop("healthCheckNodePort", None)


def _keep_node_ports(spec: JsonObject, was: JsonObject) -> None:
    if not _is_external(was):
        return
    ports = [entry for entry in _list(spec.get("ports")) if isinstance(entry, dict)]
    before = {entry.get("name", ""): entry["nodePort"] for entry in was["ports"] if entry.get("nodePort")}
    if not _is_external(spec):
        for entry in ports:
            if entry.get("nodePort") in before.values():
                del entry["nodePort"]
        return
    used = {(entry.get("protocol", "TCP"), entry.get("nodePort")) for entry in ports}
    for entry in ports:
        node_port = before.get(str(entry.get("name", "")))
        if node_port and not entry.get("nodePort") and (entry.get("protocol", "TCP"), node_port) not in used:
            entry["nodePort"] = node_port


def set_defaults(service: JsonObject, service_cidr: IPNetwork) -> None:
    """Fill in what Kubernetes fills in, as far as it needs no allocation. Parts of a wrong type are left alone."""
    spec = service["spec"]
    for name in [name for name, value in spec.items() if value is None]:
        del spec[name]
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        client_ip = config.setdefault("clientIP", {}) if isinstance(config, dict) else None
        if isinstance(client_ip, dict):
            client_ip.setdefault("timeoutSeconds", DEFAULT_AFFINITY_TIMEOUT_S)
    else:
        spec.pop("sessionAffinityConfig", None)
    for entry in _list(spec.get("ports")):
        if isinstance(entry, dict):
            entry.setdefault("protocol", "TCP")
            if entry.get("targetPort") in (None, 0, "") and "port" in entry:
                entry["targetPort"] = entry["port"]
            if entry.get("nodePort") == 0:
                del entry["nodePort"]
    if not spec.get("healthCheckNodePort"):
        spec.pop("healthCheckNodePort", None)
    if not spec.get("clusterIP"):
        cluster_ips = _list(spec.get("clusterIPs"))
        spec.pop("clusterIP", None)
        if cluster_ips:
            spec["clusterIP"] = cluster_ips[0]
    if spec["type"] != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
        spec.setdefault("ipFamilies", [f"IPv{service_cidr.version}"])
        spec.setdefault("ipFamilyPolicy", "SingleStack")
    if _is_external(spec):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if spec["type"] == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)


def service_problems(service: JsonObject, service_cidr: IPNetwork, pool_cidr: IPNetwork) -> Iterator[FieldProblem]:
    """Everything that is wrong with a Service by itself; defaults are set. What others have is not looked at here."""
    metadata, spec = service["metadata"], service["spec"]
    if not _SERVICE_NAME.fullmatch(str(metadata.get("name"))):
        allowed = "at most 63 of a-z, 0-9 and -, beginning with a letter, ending with a letter or digit"
        yield FieldProblem("metadata.name", "is not a name for a Service", str(metadata.get("name")), allowed)
    yield from _one_of("spec.type", spec["type"], SERVICE_TYPES)
    yield from _one_of("spec.sessionAffinity", spec["sessionAffinity"], _AFFINITIES)
    yield from _affinity_problems(spec)
    yield from _policy_problems(spec)
    yield from _family_problems(spec, service_cidr)
    yield from _address_problems(spec, service_cidr, pool_cidr)
    yield from _port_list_problems(service)
    selector = spec.get("selector") or {}
    if not isinstance(selector, dict) or not all(isinstance(value, str) for value in selector.values()):
        yield FieldProblem("spec.selector", "must map labels to text", str(selector))
    if spec["type"] == "ExternalName":
        name = spec.get("externalName")
        if not is_valid_name(str(name or "").removesuffix(".")):
            yield FieldProblem("spec.externalName", "is not a domain name", str(name or ""), "RFC 1123 subdomain")


def change_problems(new: JsonObject, old: JsonObject) -> Iterator[FieldProblem]:
    """What a Service that exists cannot change."""
    spec, was = new["spec"], old["spec"]
    if _needs_cluster_ip(was) and _needs_cluster_ip(spec) and spec.get("clusterIP") != was.get("clusterIP"):
        reason = f"cannot be changed from {was.get('clusterIP')}"
        yield FieldProblem("spec.clusterIP", reason, str(spec.get("clusterIP")))
    if needs_health_check(was) and needs_health_check(spec):
        before = was.get("healthCheckNodePort")
        if spec.get("healthCheckNodePort") != before:
            value = str(spec.get("healthCheckNodePort"))
            yield FieldProblem("spec.healthCheckNodePort", f"cannot be changed from {before}", value)


def needs_health_check(spec: JsonObject) -> bool:
    """Whether nodes answer on a port of their own whether they have endpoints."""
    return (spec.get("type"), spec.get("externalTrafficPolicy")) == ("LoadBalancer", "Local")


def needs_node_ports(spec: JsonObject) -> bool:
    """Whether ports without a ``nodePort`` get one."""
    wanted = spec.get("allocateLoadBalancerNodePorts") is not False
    return (spec.get("type"), wanted) in (("NodePort", True), ("NodePort", False), ("LoadBalancer", True))


def _needs_cluster_ip(spec: JsonObject) -> bool:
    return bool(spec.get("type") != "ExternalName")


def _is_external(spec: JsonObject) -> bool:
    return spec.get("type") in _EXTERNAL_TYPES


def _affinity_problems(spec: JsonObject) -> Iterator[FieldProblem]:
    if spec["sessionAffinity"] != "ClientIP":
        return
    config = spec["sessionAffinityConfig"]
    client_ip = config.get("clientIP") if isinstance(config, dict) else None
    timeout_s = client_ip.get("timeoutSeconds") if isinstance(client_ip, dict) else None
    if not _is_number(timeout_s) or timeout_s not in range(1, _MAX_AFFINITY_TIMEOUT_S + 1):
        field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        yield FieldProblem(field, "is out of range", str(timeout_s), f"1-{_MAX_AFFINITY_TIMEOUT_S}")


def _policy_problems(spec: JsonObject) -> Iterator[FieldProblem]:
    if "internalTrafficPolicy" in spec:
        yield from _one_of("spec.internalTrafficPolicy", spec["internalTrafficPolicy"], _POLICIES)
    if "externalTrafficPolicy" in spec:
        policy = spec["externalTrafficPolicy"]
        if _is_external(spec):
            yield from _one_of("spec.externalTrafficPolicy", policy, _POLICIES)
        else:
            reason = "is for Services of the types NodePort and LoadBalancer only"
            yield FieldProblem("spec.externalTrafficPolicy", reason, str(policy))
    if "healthCheckNodePort" in spec:
        number = spec["healthCheckNodePort"]
        if not needs_health_check(spec):
            reason = "is for Services of the type LoadBalancer with externalTrafficPolicy Local only"
            yield FieldProblem("spec.healthCheckNodePort", reason, str(number))
        else:
            yield from _node_port_problems("spec.healthCheckNodePort", number)
            if any(isinstance(entry, dict) and entry.get("nodePort") == number for entry in _list(spec.get("ports"))):
                yield FieldProblem("spec.healthCheckNodePort", "is a nodePort of the same Service", str(number))


def _family_problems(spec: JsonObject, service_cidr: IPNetwork) -> Iterator[FieldProblem]:
    if spec["type"] == "ExternalName":
        return
    family = f"IPv{service_cidr.version}"
    if spec["ipFamilies"] != [family]:
        yield FieldProblem("spec.ipFamilies", "the cluster has one IP version", str(spec["ipFamilies"]), f"[{family}]")
    yield from _one_of("spec.ipFamilyPolicy", spec["ipFamilyPolicy"], ("SingleStack", "PreferDualStack"))


def _address_problems(spec: JsonObject, service_cidr: IPNetwork, pool_cidr: IPNetwork) -> Iterator[FieldProblem]:
    cluster_ip = spec.get("clusterIP")
    if cluster_ip is not None:
        if spec["type"] == "ExternalName":
            yield FieldProblem("spec.clusterIP", "is not for Services of the type ExternalName", str(cluster_ip))
        elif cluster_ip == "None":
            if spec["type"] != "ClusterIP":
                yield FieldProblem("spec.clusterIP", f"cannot be None for a Service of the type {spec['type']}")
        else:
            yield from _in_range("spec.clusterIP", cluster_ip, "serviceCIDR", service_cidr)
        if _list(spec.get("clusterIPs")) not in ([], [cluster_ip]):
            value = str(spec["clusterIPs"])
            yield FieldProblem("spec.clusterIPs", "must be the clusterIP alone", value, f"[{cluster_ip}]")
    if spec.get("loadBalancerIP") and spec["type"] == "LoadBalancer":
        yield from _in_range("spec.loadBalancerIP", spec["loadBalancerIP"], "loadBalancerCIDR", pool_cidr)


def _in_range(field: str, text: Any, setting: str, cidr: IPNetwork) -> Iterator[FieldProblem]:
    try:
        address = ip_address(text)
    except ValueError:
        yield FieldProblem(field, "is not an IP address", str(text), f"an address of {setting} {cidr}")
        return
    if address not in cidr:
        yield FieldProblem(field, f"lies outside {setting} {cidr}", str(text))
    elif int(address) - int(cidr.network_address) not in usable_indices(cidr):
        yield FieldProblem(field, f"is no address for a host in {setting} {cidr}", str(text))


def usable_indices(cidr: IPNetwork) -> range:
    """The positions in a CIDR that can be given out: not the network's own and, with IPv4, not the broadcast address.

    Of a large IPv6 network the first 65536, as in Kubernetes.
    """
    if cidr.version == 4:
        return range(1, max(1, cidr.num_addresses - 1))
    return range(1, min(cidr.num_addresses, 1 << 16))


def _port_list_problems(service: JsonObject) -> Iterator[FieldProblem]:
    spec = service["spec"]
    ports = spec.get("ports") or []
    if not isinstance(ports, list):
        yield FieldProblem("spec.ports", "must be a list", str(ports))
        return
    if not ports and spec["type"] != "ExternalName" and not is_headless(service):
        yield FieldProblem("spec.ports", "a Service needs at least one port")
    seen: dict[str, dict[Any, str]] = {"name": {}, "port": {}, "nodePort": {}}
    for index, entry in enumerate(ports):
        field = f"spec.ports[{index}]"
        if not isinstance(entry, dict):
            yield FieldProblem(field, "must be a mapping", str(entry))
            continue
        yield from _port_problems(field, entry, spec, len(ports) > 1)
        unique = {
            "name": entry.get("name") or None,
            "port": (entry.get("protocol"), entry.get("port")),
            "nodePort": (entry.get("protocol"), entry["nodePort"]) if entry.get("nodePort") else None,
        }
        for name, value in unique.items():
            if value is None:
                continue
            first = seen[name].setdefault(str(value), field)
            if first != field:
                yield FieldProblem(f"{field}.{name}", f"is the same as that of {first}", str(entry.get(name)))


def _port_problems(field: str, entry: JsonObject, spec: JsonObject, several: bool) -> Iterator[FieldProblem]:
    name = entry.get("name")
    if name and not _PORT_NAME.fullmatch(str(name)):
        yield FieldProblem(f"{field}.name", "is not a name for a port", str(name), "RFC 1123 label")
    elif several and not name:
        yield FieldProblem(f"{field}.name", "is required, because the Service has several ports")
    yield from _one_of(f"{field}.protocol", entry["protocol"], PROTOCOLS)
    if not _is_port(entry.get("port")):
        yield FieldProblem(f"{field}.port", "is not a port", str(entry.get("port", "nothing")), "1-65535")
    target = entry.get("targetPort", entry.get("port"))
    if isinstance(target, str):
        if not _TARGET_PORT_NAME.fullmatch(target):
            allowed = "1-65535, or the name of a container's port"
            yield FieldProblem(f"{field}.targetPort", "is not a port", target, allowed)
    elif target is not entry.get("port") and not _is_port(target):
        yield FieldProblem(f"{field}.targetPort", "is not a port", str(target), "1-65535")
    if "nodePort" in entry:
        if not _is_external(spec):
            reason = f"is not for Services of the type {spec['type']}"
            yield FieldProblem(f"{field}.nodePort", reason, str(entry["nodePort"]))
        else:
            yield from _node_port_problems(f"{field}.nodePort", entry["nodePort"])


def _node_port_problems(field: str, number: Any) -> Iterator[FieldProblem]:
    if not _is_number(number) or number not in NODE_PORTS:
        yield FieldProblem(field, "is out of range", str(number), _NODE_PORTS_TEXT)


def _one_of(field: str, value: Any, allowed: Iterable[str]) -> Iterator[FieldProblem]:
    if value not in tuple(allowed):
        yield FieldProblem(field, "is not one of the values", str(value), ", ".join(allowed))


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_port(value: Any) -> bool:
    return _is_number(value) and 0 < value < 65536


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
