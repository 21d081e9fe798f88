"""What is wrong with Pods, and with the templates of Pods."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence

from testbed.apiserver.checks.names import wrong_label_name, wrong_port_name, wrong_variable_name
from testbed.apiserver.checks.services import wrong_target
from testbed.apiserver.checks.words import (
    Problem,
    duplicate,
    forbidden,
    invalid_value,
    not_found,
    port_number,
    repeated,
    required,
    unsupported,
)
from testbed.apiserver.checks.workloads import WITH_TEMPLATE
from testbed.cluster.defaulting import set_defaults
from testbed.cluster.kinds import POD, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity
from testbed.cluster.values import PROTOCOLS

_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HOOKS = ("postStart", "preStop")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
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
    volumes = [str(volume.get("name") or "") for volume in spec.get("volumes") or ()]
    for index, name in enumerate(volumes):
        if name and (wrong := wrong_label_name(name)):
            yield f"{at}.volumes[{index}].name", wrong
    yield from repeated(volumes, f"{at}.volumes")
    inits: list[JsonObject] = spec.get("initContainers") or []
    taken = {container.get("name") for container in containers}
    for part, listed in (("initContainers", inits), ("containers", containers)):
        yield from repeated((str(container.get("name")) for container in listed), f"{at}.{part}")
        for index, container in enumerate(listed):
            if part == "initContainers" and container.get("name") in taken:
                yield f"{at}.{part}[{index}].name", duplicate(container["name"])
            yield from _container_problems(container, [*volumes, *claims], f"{at}.{part}[{index}]")


def _container_problems(container: JsonObject, volumes: list[str], at: str) -> Iterator[Problem]:
    name = container.get("name")
    if name == "":
        yield f"{at}.name", required()
    elif name is not None and (wrong := wrong_label_name(name)):
        yield f"{at}.name", wrong
    if not container.get("image"):
        yield f"{at}.image", required()
    if container.get("imagePullPolicy") not in (None, "", *_PULL_POLICIES):
        yield f"{at}.imagePullPolicy", unsupported(container["imagePullPolicy"], _PULL_POLICIES)
    for index, port in enumerate(container.get("ports") or ()):
        yield from _port_problems(port, f"{at}.ports[{index}]")
    named = [(index, port["name"]) for index, port in enumerate(container.get("ports") or ()) if port.get("name")]
    for index, port_name in named:
        if any(port_name == other for earlier, other in named if earlier < index):
            yield f"{at}.ports[{index}].name", duplicate(port_name)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") is not None and mount["name"] not in volumes:
            yield f"{at}.volumeMounts[{index}].name", not_found(mount["name"])
    for index, variable in enumerate(container.get("env") or ()):
        yield from _variable_problems(variable, f"{at}.env[{index}]")
    yield from _resource_problems(container.get("resources") or {}, f"{at}.resources")
    for probe in _PROBES:
        if container.get(probe) is not None:
            yield from _handler_problems(container[probe], f"{at}.{probe}")
    for hook in _HOOKS:
        yield from _handler_ports((container.get("lifecycle") or {}).get(hook) or {}, f"{at}.lifecycle.{hook}")


def _port_problems(port: JsonObject, at: str) -> Iterator[Problem]:
    for name in ("containerPort", "hostPort"):
        number = port.get(name)
        if number is not None and not (name == "hostPort" and number == 0) and (wrong := port_number(number)):
            yield f"{at}.{name}", wrong
    if port.get("protocol") not in (None, *PROTOCOLS):
        yield f"{at}.protocol", unsupported(port["protocol"], PROTOCOLS)
    if port.get("name") and (wrong := wrong_port_name(port["name"])):
        yield f"{at}.name", wrong


def _variable_problems(variable: JsonObject, at: str) -> Iterator[Problem]:
    name = variable.get("name")
    if name == "":
        yield f"{at}.name", required()
    elif name is not None and (wrong := wrong_variable_name(name)):
        yield f"{at}.name", wrong
    if variable.get("value") and variable.get("valueFrom"):
        yield f"{at}.valueFrom", invalid_value("", "may not be specified when `value` is not empty")


def _resource_problems(resources: JsonObject, at: str) -> Iterator[Problem]:
    """Quantities have been read before."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, amount in amounts.items():
            if quantity(str(amount)) < 0:
                yield f"{at}.{part}[{name}]", invalid_value(str(amount), "must be greater than or equal to 0")
    for name, amount in requests.items():
        if name in limits and quantity(str(amount)) > quantity(str(limits[name])):
            reason = f"must be less than or equal to {name} limit of {limits[name]}"
            yield f"{at}.requests", invalid_value(str(amount), reason)


def _handler_problems(probe: JsonObject, at: str) -> Iterator[Problem]:
    given = [name for name in _HANDLERS if probe.get(name) is not None]
    if not given:
        yield at, required("must specify a handler type")
    for name in given[1:]:
        yield f"{at}.{name}", forbidden("may not specify more than 1 handler type")
    yield from _handler_ports(probe, at)


def _handler_ports(handler: JsonObject, at: str) -> Iterator[Problem]:
    for name in ("httpGet", "tcpSocket"):
        port = (handler.get(name) or {}).get("port")
        if port is not None and (wrong := wrong_target(port)):
            yield f"{at}.{name}.port", wrong
