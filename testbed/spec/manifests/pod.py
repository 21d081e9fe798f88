"""v1 Pod, and the pods that templates make: what the API server would refuse though the schema allows it, and what
cannot run here."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from ipaddress import ip_address

from testbed.cluster.objects import JsonObject, is_valid_name
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL, DNS_LABEL_FORM, DNS_SUBDOMAIN_FORM
from testbed.spec.images import UnknownImage, container_argv
from testbed.spec.manifests.fields import METADATA, Fields, object_fields
from testbed.spec.manifests.manifest import Manifest, pod_template
from testbed.spec.manifests.metadata import one_of, subdomain_problems, within
from testbed.spec.manifests.ports import PORT_NAME_FORM, is_port_name, number_problems, protocol_problems
from testbed.spec.manifests.probes import PROBE_FIELDS, PROBES, probe_problems
from testbed.spec.nearest import names_text
from testbed.spec.source import FieldPath

_HOOK: Fields = {"exec": None, "httpGet": None, "sleep": None}
_CONTAINER_FIELDS: Fields = {
    **dict.fromkeys(("name", "image", "imagePullPolicy", "command", "args", "workingDir", "env", "envFrom")),
    **dict.fromkeys(("stdin", "stdinOnce", "tty")),
    "ports": dict.fromkeys(("name", "containerPort", "protocol", "hostPort", "hostIP")),
    **dict.fromkeys(PROBES, PROBE_FIELDS),
    "lifecycle": {"preStop": _HOOK, "postStart": _HOOK, "stopSignal": None},
    "volumeMounts": dict.fromkeys(("name", "mountPath", "subPath", "subPathExpr", "readOnly")),
    "resources": {"limits": None, "requests": None},
}
_VOLUME_FIELDS: Fields = {
    **dict.fromkeys(("name", "configMap", "secret", "downwardAPI", "projected", "hostPath", "persistentVolumeClaim")),
    "emptyDir": {},
}
_SPEC_FIELDS: Fields = {
    **dict.fromkeys(("nodeName", "nodeSelector", "tolerations", "hostNetwork", "hostname", "subdomain")),
    **dict.fromkeys(("hostAliases", "dnsPolicy", "dnsConfig", "restartPolicy", "terminationGracePeriodSeconds")),
    **dict.fromkeys(("readinessGates", "enableServiceLinks", "serviceAccountName", "schedulerName")),
    **dict.fromkeys(("shareProcessNamespace", "hostPID")),
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}},
    "containers": _CONTAINER_FIELDS,
    "initContainers": {**_CONTAINER_FIELDS, "restartPolicy": None},
    "volumes": _VOLUME_FIELDS,
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
    yield from one_of(manifest, (*path, "restartPolicy"), spec.get("restartPolicy"), ("Always", "OnFailure", "Never"))
    yield from within(
        manifest, (*path, "terminationGracePeriodSeconds"), spec.get("terminationGracePeriodSeconds"), 0, 2**31 - 1
    )
    if not spec.get("containers"):
        yield manifest.problem((*path, "containers"), "a Pod needs at least one container")
    volumes = list(_volume_names(manifest, path, spec))
    yield from (problem for _, problem in volumes if problem is not None)
    known = {name for name, _ in volumes}
    seen: dict[str, str] = {}
    for here, container in _containers(path, spec):
        name = container["name"]
        where = f"{here[-2]}[{here[-1]}]"
        if not DNS_LABEL.fullmatch(name):
            yield manifest.problem((*here, "name"), "is not a name for a container", name, DNS_LABEL_FORM)
        elif seen.setdefault(name, where) != where:
            first = seen[name].removeprefix(str(here[-2]))
            yield manifest.problem((*here, "name"), f"two containers have this name; the first is {first}", name)
        yield from _port_problems(manifest, here, container)
        yield from probe_problems(manifest, here, container)
        yield from _program_problems(manifest, here, container)
        yield from _mount_problems(manifest, here, container, known)


def unknown_images(manifest: Manifest) -> Iterator[Problem]:
    """Containers that nothing here can run: their image has no program, and they have no command."""
    found = pod_template(manifest)
    if found is None:
        return
    path, pod = found
    for here, container in _containers((*path, "spec"), pod.get("spec") or {}):
        try:
            container_argv(container)
        except UnknownImage as unknown:
            message = f"this image has no program here, so the container needs a command{unknown.hint}"
            allowed = f"a command, one of the images {names_text(unknown.known)}, or one of a catalogue of your own"
            yield manifest.problem((*here, "image"), message, unknown.image, allowed)


def _containers(path: FieldPath, spec: JsonObject) -> Iterator[tuple[FieldPath, JsonObject]]:
    """The containers of both kinds, each with where it stands."""
    for field_name in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field_name) or ()):
            yield (*path, field_name, index), container


def _volume_names(manifest: Manifest, path: FieldPath, spec: JsonObject) -> Iterator[tuple[str, Problem | None]]:
    """The names of the volumes, each with what is wrong with it."""
    seen: set[str] = set()
    for index, volume in enumerate(spec.get("volumes") or ()):
        here: FieldPath = (*path, "volumes", index)
        name, kinds = str(volume["name"]), sorted(set(volume) - {"name"})
        problem = None
        if not DNS_LABEL.fullmatch(name):
            problem = manifest.problem((*here, "name"), "is not a name for a volume", name, DNS_LABEL_FORM)
        elif name in seen:
            problem = manifest.problem((*here, "name"), "two volumes have this name", name)
        elif len(kinds) != 1 or kinds[0] not in _VOLUME_FIELDS:
            known = names_text([kind for kind in _VOLUME_FIELDS if kind != "name"])
            problem = manifest.problem(here, "needs exactly one kind of source", names_text(kinds) or "none", known)
        seen.add(name)
        yield name, problem


def _mount_problems(
    manifest: Manifest, path: FieldPath, container: JsonObject, volumes: Container[str]
) -> Iterator[Problem]:
    targets: set[str] = set()
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        here: FieldPath = (*path, "volumeMounts", index)
        if mount["name"] not in volumes:
            yield manifest.problem((*here, "name"), "the pod has no volume of this name", mount["name"])
        target = str(mount["mountPath"])
        if target in targets:
            yield manifest.problem((*here, "mountPath"), "something is mounted here already", target)
        elif "\0" in target or target.strip("/") in ("", "proc", "dev", "sys", "run"):
            yield manifest.problem((*here, "mountPath"), "nothing can be mounted here", target, "a folder below")
        targets.add(target)


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
    """The container's ports, which a Service's ``targetPort`` and a probe may name."""
    first: dict[str, int] = {}
    for index, entry in enumerate(container.get("ports") or ()):
        here: FieldPath = (*path, "ports", index)
        yield from number_problems(manifest, (*here, "containerPort"), entry["containerPort"])
        if entry.get("hostPort") is not None:
            yield from number_problems(manifest, (*here, "hostPort"), entry["hostPort"])
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
        if "valueFrom" in variable and len(variable["valueFrom"]) != 1:
            here = (*path, "env", number, "valueFrom")
            yield manifest.problem(
                here, "needs exactly one source", names_text(sorted(variable["valueFrom"])) or "none"
            )
    for field_name in ("command", "args"):
        if any("\0" in word for word in container.get(field_name) or ()):
            yield manifest.problem((*path, field_name), "holds a NUL character")
    if not container.get("image"):
        yield manifest.problem((*path, "image"), "is required")
