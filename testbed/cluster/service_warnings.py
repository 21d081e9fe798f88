"""What is allowed and yet hardly meant: Services that find no pod, or no port of the pods that they find."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from testbed.cluster.endpoint_slices import named_ports
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.label_index import PodIndex
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.services import selector_of


class ServiceWarning(NamedTuple):
    """What is odd about a field of the Service ``namespace/name``."""

    namespace: str
    name: str
    problem: FieldProblem


def service_warnings(objects: Iterable[JsonObject]) -> Iterator[ServiceWarning]:
    """The warnings about the Services among complete objects (:func:`testbed.cluster.assign.assign`), in their order.

    Kubernetes accepts all of it without a word: the endpoints are then simply missing.
    """
    pods, services = PodIndex(), []
    for wire in objects:
        if wire["kind"] == "Pod":
            pods.put(wire)
        elif wire["kind"] == "Service" and selector_of(wire):
            services.append(wire)
    for service in services:
        namespace = object_namespace(service)
        selected = pods.select(namespace, selector_of(service))
        for problem in _problems(service, selected):
            yield ServiceWarning(namespace, object_name(service), problem)


def _problems(service: JsonObject, pods: list[JsonObject]) -> Iterator[FieldProblem]:
    if not pods:
        labels = ", ".join(f"{name}={value}" for name, value in sorted(selector_of(service).items()))
        yield FieldProblem("spec.selector", "matches no pod of the namespace", labels)
        return
    known = {key for pod in pods for key in named_ports(pod)}
    for index, entry in enumerate(service["spec"].get("ports") or ()):
        target, protocol = entry.get("targetPort"), entry["protocol"]
        if isinstance(target, str) and (target, protocol) not in known:
            names = ", ".join(sorted(name for name, of in known if of == protocol))
            reason = f"is the name of no {protocol} port of a container of the pods"
            yield FieldProblem(f"spec.ports[{index}].targetPort", reason, target, names)
