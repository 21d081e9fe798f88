"""What is wrong with Pods, and with the templates of Pods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from testbed.apiserver.checks.addresses import wrong_ip
from testbed.apiserver.checks.containers import container_problems
from testbed.apiserver.checks.names import wrong_label_name, wrong_name
from testbed.apiserver.checks.words import (
    Problem,
    duplicate,
    forbidden,
    invalid_value,
    not_negative,
    repeated,
    required,
    unsupported,
)
from testbed.apiserver.checks.workloads import WITH_TEMPLATE
from testbed.cluster.defaulting import set_defaults
from testbed.cluster.kinds import POD, Kind
from testbed.cluster.objects import JsonObject

_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
# What may be changed of a Pod that is there; its node is set by whoever binds it.
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates", "nodeName")


def pod_problems(kind: Kind, wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with a Pod, or with the template of a workload; nothing with other kinds."""
    if kind is POD:
        yield from _spec_problems(wire.get("spec") or {}, "spec")
    elif kind in WITH_TEMPLATE:
        spec = wire.get("spec") or {}
        template = spec.get("template") or {}
        claims = [str((claim.get("metadata") or {}).get("name")) for claim in spec.get("volumeClaimTemplates") or ()]
        yield from _spec_problems(template.get("spec") or {}, "spec.template.spec", claims)


def pod_change_problems(new: JsonObject, old: JsonObject) -> Iterator[Problem]:
    """What of a Pod cannot be changed once it is there."""
    before = copy.deepcopy(old)
    set_defaults(POD, before)
    if _fixed(new) != _fixed(before):
        text = (
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
            "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
            "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
        )
        yield "spec", forbidden(text)


def _fixed(pod: JsonObject) -> JsonObject:
    spec = {name: value for name, value in (pod.get("spec") or {}).items() if name not in _MUTABLE}
    for part in ("containers", "initContainers"):
        spec[part] = [
            {name: value for name, value in container.items() if name != "image"} for container in spec.get(part) or ()
        ]
    return spec


def _spec_problems(spec: JsonObject, at: str, claims: Sequence[str] = ()) -> Iterator[Problem]:
    """``claims`` are volumes that each pod of a StatefulSet has besides its template's."""
    containers: list[JsonObject] = spec.get("containers") or []
    if not containers:
        yield f"{at}.containers", required()
    for name, choices in _CHOICES.items():
        if spec.get(name) not in (None, *choices):
            yield f"{at}.{name}", unsupported(spec[name], choices)
    yield from not_negative(spec, ("terminationGracePeriodSeconds", "activeDeadlineSeconds"), at)
    for name in ("hostname", "subdomain"):
        if spec.get(name) and (wrong := wrong_label_name(spec[name])):
            yield f"{at}.{name}", wrong
    yield from _name_problems(spec, at)
    volumes = [str(volume.get("name") or "") for volume in spec.get("volumes") or ()]
    for index, volume in enumerate(spec.get("volumes") or ()):
        yield from _volume_problems(volume, f"{at}.volumes[{index}]")
    yield from repeated(volumes, f"{at}.volumes")
    inits: list[JsonObject] = spec.get("initContainers") or []
    taken = {container.get("name") for container in containers}
    for part, listed in (("initContainers", inits), ("containers", containers)):
        yield from repeated((str(container.get("name")) for container in listed), f"{at}.{part}")
        for index, container in enumerate(listed):
            if part == "initContainers" and container.get("name") in taken:
                yield f"{at}.{part}[{index}].name", duplicate(container["name"])
            yield from container_problems(container, [*volumes, *claims], f"{at}.{part}[{index}]")
    yield from _host_ports(containers, at)


def _name_problems(spec: JsonObject, at: str) -> Iterator[Problem]:
    """What the pod's hosts file and its resolver are told."""
    for index, alias in enumerate(spec.get("hostAliases") or ()):
        if alias.get("ip") is not None and (wrong := wrong_ip(alias["ip"])):
            yield f"{at}.hostAliases[{index}].ip", wrong
        for number, name in enumerate(alias.get("hostnames") or ()):
            if wrong := wrong_name(name):
                yield f"{at}.hostAliases[{index}].hostnames[{number}]", wrong
    config = spec.get("dnsConfig") or {}
    for index, address in enumerate(config.get("nameservers") or ()):
        if wrong := wrong_ip(address):
            yield f"{at}.dnsConfig.nameservers[{index}]", wrong
    for index, domain in enumerate(config.get("searches") or ()):
        if domain != "." and (wrong := wrong_name(domain.rstrip(".").replace("_", "u"))):
            yield f"{at}.dnsConfig.searches[{index}]", wrong
    for index, option in enumerate(config.get("options") or ()):
        for part in ("name", "value"):
            text = option.get(part)
            if part == "name" and not text:
                yield f"{at}.dnsConfig.options[{index}].name", required()
            elif text and text.split() != [text]:
                yield f"{at}.dnsConfig.options[{index}].{part}", invalid_value(text, "must not contain white space")


def _volume_problems(volume: JsonObject, at: str) -> Iterator[Problem]:
    if volume.get("name") and (wrong := wrong_label_name(volume["name"])):
        yield f"{at}.name", wrong
    claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim is not None and (wrong := wrong_name(claim)):
        yield f"{at}.persistentVolumeClaim.claimName", wrong
    yield from _item_problems(volume, at)
    for index, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
        yield from _item_problems(source, f"{at}.projected.sources[{index}]")


def _item_problems(volume: JsonObject, at: str) -> Iterator[Problem]:
    """What is wrong with the files that are named one by one."""
    for part in ("configMap", "secret", "downwardAPI"):
        for index, item in enumerate((volume.get(part) or {}).get("items") or ()):
            here, path = f"{at}.{part}.items[{index}]", item.get("path")
            if path and path.startswith("/"):
                yield f"{here}.path", invalid_value(path, "must be a relative path")
            elif path and ".." in path.split("/"):
                yield f"{here}.path", invalid_value(path, "must not contain '..'")
            if part == "downwardAPI" and not (item.get("fieldRef") or item.get("resourceFieldRef")):
                yield here, required("one of fieldRef and resourceFieldRef is required")


def _host_ports(containers: Sequence[JsonObject], at: str) -> Iterator[Problem]:
    """A port of the node that the pod asks for twice."""
    taken = set[str]()
    for number, container in enumerate(containers):
        for index, port in enumerate(container.get("ports") or ()):
            if not port.get("hostPort"):
                continue
            asked = f"{port.get('protocol') or 'TCP'}/{port.get('hostIP') or ''}/{port['hostPort']}"
            if asked in taken:
                yield f"{at}.containers[{number}].ports[{index}].hostPort", duplicate(asked)
            taken.add(asked)
