"""The Ingress controllers among the pods, and the addresses at which they are reached."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from testbed.cluster.objects import JsonObject, object_namespace
from testbed.cluster.services import selector_of

# registry.k8s.io/ingress-nginx/controller:v1.11.2, and what it was called before 2021.
_IMAGE = re.compile(r"(?:^|/)(?:ingress-nginx/controller|nginx-ingress-controller)(?:[:@]|$)")


def is_controller(pod: JsonObject) -> bool:
    """Whether a container of the pod is the Ingress controller, by its image."""
    containers = (pod.get("spec") or {}).get("containers") or ()
    return any(_IMAGE.search(str(container.get("image") or "")) for container in containers)


def ingress_addresses(controllers: Iterable[JsonObject], services: Iterable[JsonObject]) -> list[str]:
    """Where ready controllers are reached: at the LoadBalancer Services before them, or at their nodes."""
    pods = list(controllers)
    balanced = {address for service in services if _selects_any(service, pods) for address in _assigned(service)}
    nodes = {str(pod["status"]["hostIP"]) for pod in pods if (pod.get("status") or {}).get("hostIP")}
    return sorted(balanced or nodes, key=ip_address)


def _selects_any(service: JsonObject, pods: Iterable[JsonObject]) -> bool:
    if (service.get("spec") or {}).get("type") != "LoadBalancer":
        return False
    selector = selector_of(service).items()
    return bool(selector) and any(
        object_namespace(pod) == object_namespace(service) and selector <= (pod["metadata"].get("labels") or {}).items()
        for pod in pods
    )


def _assigned(service: JsonObject) -> Iterator[str]:
    for entry in ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ():
        if entry.get("ip"):
            yield str(entry["ip"])
