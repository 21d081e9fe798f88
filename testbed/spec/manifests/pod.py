"""v1 Pod, and the pods that templates make: what the API server would refuse though the schema allows it, and what
cannot run here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address

from testbed.cluster.objects import JsonObject, is_valid_name
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL, DNS_LABEL_FORM, DNS_SUBDOMAIN_FORM
from testbed.spec.images import UnknownImage, container_argv
from testbed.spec.manifests.fields import METADATA, Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import one_of, subdomain_problems
from testbed.spec.manifests.ports import PORT_NAME_FORM, is_port_name, number_problems, protocol_problems
from testbed.spec.manifests.readiness import READINESS_FIELDS, readiness_problems
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import FieldPath

_SPEC_FIELDS: Fields = {
    **dict.fromkeys(("nodeName", "nodeSelector", "hostNetwork", "hostname", "subdomain")),
    **dict.fromkeys(("hostAliases", "dnsPolicy", "dnsConfig")),
    "containers": {
        **dict.fromkeys(("name", "image", "command", "args", "env")),
        "ports": dict.fromkeys(("name", "containerPort", "protocol")),
        "readinessProbe": READINESS_FIELDS,
    },
}
FIELDS = object_fields(spec=_SPEC_FIELDS)
TEMPLATE_FIELDS: Fields = {"metadata": METADATA, "spec": _SPEC_FIELDS}

_DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A Pod."""
    yield from subdomain_problems(manifest)
    yield from pod_spec_problems(manifest, ("spec",), manifest.spec)


def pod_spec_problems(manifest: Manifest, path: FieldPath, spec: JsonObject) -> Iterator[Problem]:
    """The ``spec`` of a pod or of a template, which stands at ``path``."""
    yield from _name_resolution_problems(manifest, path, spec)
    containers = spec.get("containers") or []
    if not containers:
        yield manifest.problem((*path, "containers"), "a Pod needs at least one container")
    seen: dict[str, int] = {}
    for index, container in enumerate(containers):
        here = (*path, "containers", index)
        name = container["name"]
        if not DNS_LABEL.fullmatch(name):
            yield manifest.problem((*here, "name"), "is not a name for a container", name, DNS_LABEL_FORM)
        elif seen.setdefault(name, index) != index:
            message = f"two containers have this name; the first is [{seen[name]}]"
            yield manifest.problem((*here, "name"), message, name)
        yield from _port_problems(manifest, here, container)
        yield from readiness_problems(manifest, here, container)
        yield from _program_problems(manifest, here, container)


def _name_resolution_problems(manifest: Manifest, path: FieldPath, spec: JsonObject) -> Iterator[Problem]:
    """What ends up in the pod's hostname, /etc/hosts and /etc/resolv.conf."""
    for field_name in ("hostname", "subdomain"):
        value = spec.get(field_name)
        if value and not DNS_LABEL.fullmatch(value):
            yield manifest.problem((*path, field_name), "is not a name for a host", value, DNS_LABEL_FORM)
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        here: FieldPath = (*path, "hostAliases", index)
        yield from _address_problems(manifest, (*here, "ip"), alias.get("ip"))
        for number, name in enumerate(alias.get("hostnames") or ()):
            if not is_valid_name(name):
                where = (*here, "hostnames", number)
                yield manifest.problem(where, "is not a name for a host", name, DNS_SUBDOMAIN_FORM)
    config = spec.get("dnsConfig") or {}
    yield from one_of(manifest, (*path, "dnsPolicy"), spec.get("dnsPolicy"), _DNS_POLICIES)
    if spec.get("dnsPolicy") == "None" and not config.get("nameservers"):
        yield manifest.problem((*path, "dnsConfig", "nameservers"), "is required with dnsPolicy None")
    for index, address in enumerate(config.get("nameservers") or ()):
        yield from _address_problems(manifest, (*path, "dnsConfig", "nameservers", index), address)
    for index, domain in enumerate(config.get("searches") or ()):
        if not is_valid_name(domain.removesuffix(".")):
            here = (*path, "dnsConfig", "searches", index)
            yield manifest.problem(here, "is not a domain", domain, DNS_SUBDOMAIN_FORM)
    for index, option in enumerate(config.get("options") or ()):
        here = (*path, "dnsConfig", "options", index)
        if not re.fullmatch(r"[a-z0-9-]+", option.get("name") or ""):
            yield manifest.problem((*here, "name"), "is not an option of resolv.conf", option.get("name") or "nothing")
        if not re.fullmatch(r"[A-Za-z0-9.-]*", option.get("value") or ""):
            yield manifest.problem((*here, "value"), "is not an option's value", option["value"])


def _address_problems(manifest: Manifest, path: FieldPath, address: str | None) -> Iterator[Problem]:
    try:
        ip_address(address or "")
    except ValueError:
        yield manifest.problem(path, "is not an IP address", address or "nothing")


def _port_problems(manifest: Manifest, path: FieldPath, container: JsonObject) -> Iterator[Problem]:
    """The container's ports, which a Service's ``targetPort`` and a readiness probe may name."""
    first: dict[str, int] = {}
    for index, entry in enumerate(container.get("ports") or ()):
        here: FieldPath = (*path, "ports", index)
        yield from number_problems(manifest, (*here, "containerPort"), entry["containerPort"])
        yield from protocol_problems(manifest, here, entry)
        name = entry.get("name")
        if name is None:
            continue
        if not is_port_name(name):
            yield manifest.problem((*here, "name"), "is not a name for a container's port", name, PORT_NAME_FORM)
        elif first.setdefault(name, index) != index:
            message = f"two ports of the container have this name; the first is [{first[name]}]"
            yield manifest.problem((*here, "name"), message, name)


def _program_problems(manifest: Manifest, path: FieldPath, container: JsonObject) -> Iterator[Problem]:
    """What the container runs, and its variables."""
    for number, variable in enumerate(container.get("env") or ()):
        if "valueFrom" in variable:
            here = (*path, "env", number, "valueFrom")
            yield manifest.problem(here, "is not supported; give the variable a plain value", allowed="value")
    for field_name in ("command", "args"):
        if any("\0" in word for word in container.get(field_name) or ()):
            yield manifest.problem((*path, field_name), "holds a NUL character")
    if not container.get("image"):
        yield manifest.problem((*path, "image"), "is required")
        return
    try:
        container_argv(container)
    except UnknownImage as unknown:
        message = "this image has no program here, so the container needs a command"
        hint = suggestion(unknown.image, unknown.known)
        allowed = f"a command, or one of the images {names_text(unknown.known)}"
        yield manifest.problem((*path, "image"), message + hint, unknown.image, allowed)
