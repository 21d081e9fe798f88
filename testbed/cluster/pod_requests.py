"""What pods ask of a node, and what a node has to give: processors in thousandths, everything else in its own unit
(https://kubernetes.io/docs/concepts/configuration/manage-resources-containers/)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import ceil

from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity

Resources = Mapping[str, int]

_CPU = "cpu"


def pod_requests(spec: JsonObject) -> Resources:
    """What a pod needs at the same time: all containers, or more if an init container needs more; and its overhead.

    An init container that is restarted always goes on beside those after it. Raises ValueError for what is no quantity.
    """
    running: Counter[str] = Counter()
    for container in spec.get("containers") or ():
        running += _requests(container)
    beside: Counter[str] = Counter()
    peak: Counter[str] = Counter()
    for container in spec.get("initContainers") or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            running += own
            beside += own
            peak |= beside
        else:
            peak |= beside + own
    return dict((running | peak) + Counter(_amounts(spec.get("overhead") or {})))


def allocatable(node: JsonObject) -> Resources:
    """What a node has for pods; a resource that it does not mention is without limit, if it is one that every node has
    (:func:`is_limited`). Raises ValueError."""
    return _amounts((node.get("status") or {}).get("allocatable") or {})


def is_limited(resource: str, node: Resources) -> bool:
    """Whether a node has only so much of a resource: processors, memory and storage if it says so, others always."""
    return resource in node or resource not in (_CPU, "memory", "ephemeral-storage")


def _requests(container: JsonObject) -> Counter[str]:
    """Who says only the limit asks for that much."""
    resources = container.get("resources")
    if not resources:
        return Counter()
    return Counter(_amounts({**(resources.get("limits") or {}), **(resources.get("requests") or {})}))


def _amounts(quantities: Mapping[str, object]) -> dict[str, int]:
    return {name: ceil(quantity(str(text)) * (1000 if name == _CPU else 1)) for name, text in quantities.items()}
