"""A container's environment variables: ``env``, ``envFrom``, the downward API, and those of Services. Pure.

https://kubernetes.io/docs/concepts/workloads/pods/downward-api/,
https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

from testbed.cluster import quantities
from testbed.cluster.kinds import CONFIG_MAP, SECRET, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.spec.images import expanded

# An object of the pod's namespace by kind and name; None when there is none.
Lookup = Callable[[Kind, str], JsonObject | None]

_VARIABLE = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


class NotConfigured(Exception):
    """A container names something that is not there (yet)."""


def container_variables(
    pod: JsonObject, container: JsonObject, lookup: Lookup, services: Mapping[str, str]
) -> dict[str, str]:
    """All variables of a container but those every program has; later ones may refer to earlier ones by ``$(NAME)``.

    Raises NotConfigured for a ConfigMap, Secret, key or field that is not there and not optional.
    """
    variables = dict(services)
    for source in container.get("envFrom") or ():
        variables |= dict(_all_of(source, lookup))
    for variable in container.get("env") or ():
        name = variable["name"]
        if "valueFrom" in variable:
            value = _value_from(variable["valueFrom"], pod, container, lookup)
            if value is not None:
                variables[name] = value
        else:
            variables[name] = expanded(str(variable.get("value") or ""), variables)
    return variables


def service_variables(services: Iterable[JsonObject]) -> dict[str, str]:
    """``NAME_SERVICE_HOST`` and so on of each Service with an address, as Docker's links once had them."""
    variables = {}
    for service in sorted(services, key=object_name):
        spec = service.get("spec") or {}
        cluster_ip, ports = spec.get("clusterIP"), spec.get("ports") or []
        if not cluster_ip or cluster_ip == "None" or not ports:
            continue
        name = object_name(service).upper().replace("-", "_").replace(".", "_")
        variables[f"{name}_SERVICE_HOST"] = cluster_ip
        variables[f"{name}_SERVICE_PORT"] = str(ports[0]["port"])
        first = ports[0]
        variables[f"{name}_PORT"] = f"{(first.get('protocol') or 'TCP').lower()}://{cluster_ip}:{first['port']}"
        for entry in ports:
            if entry.get("name"):
                variables[f"{name}_SERVICE_PORT_{entry['name'].upper().replace('-', '_')}"] = str(entry["port"])
            protocol = entry.get("protocol") or "TCP"
            prefix = f"{name}_PORT_{entry['port']}_{protocol}"
            variables[prefix] = f"{protocol.lower()}://{cluster_ip}:{entry['port']}"
            variables[f"{prefix}_PROTO"] = protocol.lower()
            variables[f"{prefix}_PORT"] = str(entry["port"])
            variables[f"{prefix}_ADDR"] = cluster_ip
    return variables


def contents(wire: JsonObject) -> dict[str, bytes]:
    """The entries of a ConfigMap or Secret."""
    entries = {name: str(text).encode() for name, text in (wire.get("data") or {}).items()}
    if wire["kind"] == SECRET.name:
        entries = {name: base64.b64decode(text) for name, text in entries.items()}
        return entries | {name: str(text).encode() for name, text in (wire.get("stringData") or {}).items()}
    return entries | {name: base64.b64decode(text) for name, text in (wire.get("binaryData") or {}).items()}


def field_value(pod: JsonObject, path: str) -> str:
    """A field of the pod by the downward API. Raises NotConfigured for one that it does not offer."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status") or {}
    if keyed := _KEYED.fullmatch(path):
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    match path:
        case "metadata.name":
            return object_name(pod)
        case "metadata.namespace":
            return object_namespace(pod)
        case "metadata.uid":
            return str(metadata.get("uid", ""))
        case "metadata.labels" | "metadata.annotations":
            entries = metadata.get(path.partition(".")[2]) or {}
            return "".join(f"{name}={_quoted(text)}\n" for name, text in sorted(entries.items()))
        case "spec.nodeName":
            return str(spec.get("nodeName", ""))
        case "spec.serviceAccountName":
            return str(spec.get("serviceAccountName") or "default")
        case "status.podIP" | "status.hostIP":
            return str(status.get(path.partition(".")[2], ""))
        case "status.podIPs" | "status.hostIPs":
            default = [{"ip": status.get("hostIP", "")}] if path == "status.hostIPs" else []
            return ",".join(entry["ip"] for entry in status.get(path.partition(".")[2]) or default)
    raise NotConfigured(f"unsupported fieldPath: {path}")


def resource_value(container: JsonObject, wanted: JsonObject) -> str:
    """``limits.cpu`` and so on, in units of ``divisor`` rounded up; what is not limited is the machine's."""
    what, _, name = str(wanted["resource"]).partition(".")
    resources = container.get("resources") or {}
    text = (resources.get(what) or {}).get(name)
    if text is None and what == "requests":
        text = (resources.get("limits") or {}).get(name, "0")
    if text is None:
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        text = str({"cpu": os.cpu_count() or 1, "memory": pages}.get(name, 0))
    divisor = quantity(str(wanted.get("divisor") or "1")) or 1.0
    return str(int(-(-quantity(str(text)) // divisor)))


def quantity(text: str) -> float:
    """A Kubernetes quantity: ``500m`` is 0.5, ``64Mi`` is 67108864. Raises NotConfigured for what is none."""
    try:
        return float(quantities.quantity(text))
    except ValueError as error:
        raise NotConfigured(str(error)) from None


def _quoted(text: str) -> str:
    """As Go's %q."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _all_of(source: JsonObject, lookup: Lookup) -> Iterator[tuple[str, str]]:
    """The entries of an ``envFrom`` source that can be variables."""
    for field_name, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
        reference = source.get(field_name)
        if reference is None:
            continue
        wire = find(kind, reference, lookup)
        for name, text in contents(wire).items() if wire is not None else ():
            variable = f"{source.get('prefix') or ''}{name}"
            if _VARIABLE.fullmatch(variable):
                yield variable, text.decode(errors="replace")


def find(kind: Kind, reference: JsonObject, lookup: Lookup) -> JsonObject | None:
    """A ConfigMap or Secret; None when it may be missing. Raises NotConfigured."""
    name = reference.get("name") or reference.get("secretName") or ""
    wire = lookup(kind, name)
    if wire is None and not reference.get("optional"):
        raise NotConfigured(f'{kind.name.lower()} "{name}" not found')
    return wire


def _value_from(source: JsonObject, pod: JsonObject, container: JsonObject, lookup: Lookup) -> str | None:
    if "fieldRef" in source:
        return field_value(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_value(_container_named(pod, source["resourceFieldRef"], container), source["resourceFieldRef"])
    for field_name, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
        reference = source.get(field_name)
        if reference is None:
            continue
        wire = find(kind, reference, lookup)
        entries = contents(wire) if wire is not None else {}
        if reference["key"] in entries:
            return entries[reference["key"]].decode(errors="replace")
        if reference.get("optional"):
            return None
        where = f"{object_namespace(pod)}/{reference.get('name')}"
        raise NotConfigured(f"couldn't find key {reference['key']} in {kind.name} {where}")
    raise NotConfigured("a valueFrom names no source")


def _container_named(pod: JsonObject, wanted: JsonObject, own: JsonObject) -> JsonObject:
    name = wanted.get("containerName") or own["name"]
    for container in (*(pod["spec"].get("containers") or ()), *(pod["spec"].get("initContainers") or ())):
        if container["name"] == name:
            return dict(container)
    raise NotConfigured(f"the pod has no container {name}")
