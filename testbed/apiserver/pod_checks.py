"""What Kubernetes refuses in Pods, and in the templates of Pods, beyond the types that the schemas know.

The rules are those of the fields' documentation
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from typing import Any

from testbed.cluster.defaulting import set_defaults
from testbed.cluster.kinds import DAEMON_SET, DEPLOYMENT, JOB, POD, REPLICA_SET, STATEFUL_SET, Kind
from testbed.cluster.objects import JsonObject

Problem = tuple[str, str]  # field, what is wrong with it

_WITH_TEMPLATE = (DEPLOYMENT, REPLICA_SET, STATEFUL_SET, DAEMON_SET, JOB)
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_PORT_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
_PORTS = range(1, 65536)
_CHOICES = {
    "restartPolicy": ("Always", "OnFailure", "Never"),
    "dnsPolicy": ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"),
}
_PROTOCOLS = ("TCP", "UDP", "SCTP")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
# What may be changed of a Pod that is there; its node is set by whoever binds it.
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates", "nodeName")


def pod_problems(kind: Kind, wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with a Pod, or with the template of a workload. The object meets its schema."""
    if kind is POD:
        yield from _spec_problems(wire.get("spec") or {}, "spec")
    elif kind in _WITH_TEMPLATE:
        spec = wire.get("spec") or {}
        template = spec.get("template") or {}
        claims = [str((claim.get("metadata") or {}).get("name")) for claim in spec.get("volumeClaimTemplates") or ()]
        yield from _spec_problems(template.get("spec") or {}, "spec.template.spec", claims)


def pod_change_problems(new: JsonObject, old: JsonObject) -> Iterator[Problem]:
    """What of a Pod cannot be changed once it is there."""
    before = copy.deepcopy(old)
    set_defaults(POD, before)
    if _fixed(new) != _fixed(before):
        allowed = ", ".join(
            f"spec.{name}" for name in ("containers[*].image", "initContainers[*].image", *_MUTABLE[:3])
        )
        yield "spec", f"pod updates may not change fields other than {allowed}"


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
        yield f"{at}.containers", "must have at least one container"
    for name, choices in _CHOICES.items():
        if spec.get(name) not in (None, *choices):
            yield f"{at}.{name}", f"is not one of {', '.join(choices)}"
    volumes = [str(volume.get("name")) for volume in spec.get("volumes") or ()]
    yield from _repeated(volumes, f"{at}.volumes")
    inits: list[JsonObject] = spec.get("initContainers") or []
    yield from _repeated([str(container.get("name")) for container in [*inits, *containers]], f"{at}.containers")
    for part, listed in (("initContainers", inits), ("containers", containers)):
        for index, container in enumerate(listed):
            yield from _container_problems(container, [*volumes, *claims], f"{at}.{part}[{index}]")


def _container_problems(container: JsonObject, volumes: list[str], at: str) -> Iterator[Problem]:
    if not _LABEL.fullmatch(str(container.get("name"))):
        yield f"{at}.name", "must be a lowercase RFC 1123 label of at most 63 characters"
    if not container.get("image"):
        yield f"{at}.image", "is required"
    for index, port in enumerate(container.get("ports") or ()):
        yield from _port_problems(port, f"{at}.ports[{index}]")
    names = [str(port["name"]) for port in container.get("ports") or () if port.get("name")]
    yield from _repeated(names, f"{at}.ports")
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        if mount.get("name") not in volumes:
            yield f"{at}.volumeMounts[{index}].name", f"there is no volume {mount.get('name')!r}"
    for index, variable in enumerate(container.get("env") or ()):
        if not variable.get("name") or "=" in variable["name"]:
            yield f"{at}.env[{index}].name", "must be a name without ="
        if variable.get("value") and variable.get("valueFrom"):
            yield f"{at}.env[{index}].valueFrom", "cannot be given together with value"
    for name in _PROBES:
        if (probe := container.get(name)) is not None and sum(handler in probe for handler in _HANDLERS) != 1:
            yield f"{at}.{name}", f"must have exactly one of {', '.join(_HANDLERS)}"


def _port_problems(port: JsonObject, at: str) -> Iterator[Problem]:
    for name in ("containerPort", "hostPort"):
        number: Any = port.get(name)
        if number is not None and number not in _PORTS and not (name == "hostPort" and number == 0):
            yield f"{at}.{name}", f"must be between {_PORTS[0]} and {_PORTS[-1]}"
    if port.get("protocol") not in (None, *_PROTOCOLS):
        yield f"{at}.protocol", f"is not one of {', '.join(_PROTOCOLS)}"
    if port.get("name") and not _PORT_NAME.fullmatch(port["name"]):
        yield f"{at}.name", "must be at most 15 characters of a-z, 0-9 and single -, with a letter"


def _repeated(names: list[str], at: str) -> Iterator[Problem]:
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield at, f"has the name {name!r} more than once"
