"""What the rooms ask of Service and EndpointSlice objects in their wire form."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.cluster import identity
from testbed.cluster.objects import JsonObject

# https://kubernetes.io/docs/reference/labels-annotations-taints/
SERVICE_NAME_LABEL = "kubernetes.io/service-name"
MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
SKIP_MIRROR_LABEL = "endpointslice.kubernetes.io/skip-mirror"

GroupKey = tuple[str, str]  # the name of a Service's port ("" without one) and its protocol


def is_headless(service: JsonObject) -> bool:
    """Whether the Service has no address of its own by intention (``clusterIP: None``)."""
    spec = service.get("spec") or {}
    return spec.get("type") != "ExternalName" and spec.get("clusterIP") == "None"


def selector_of(service: JsonObject) -> Mapping[str, str]:
    """The labels that the Service's pods carry; empty when its endpoints are not kept by the cluster.

    Neither those of a Service without selector are, nor is there anything to keep for an ExternalName.
    """
    spec = service.get("spec") or {}
    selector: Mapping[str, str] = {} if spec.get("type") == "ExternalName" else spec.get("selector") or {}
    return selector


def group_numbers_text(numbers: Mapping[GroupKey, int]) -> str:
    """The annotation ``network.testbed/group-numbers``: ``http/TCP=5 dns/UDP=6``, or ``/TCP=5`` for a port without
    a name."""
    return " ".join(f"{name}/{protocol}={number}" for (name, protocol), number in numbers.items())


def parse_group_numbers(text: str) -> dict[GroupKey, int]:
    """The inverse of :func:`group_numbers_text`. Raises ValueError."""
    numbers = {}
    for entry in text.split():
        key, _, number = entry.partition("=")
        name, _, protocol = key.partition("/")
        numbers[name, protocol] = int(number)
    return numbers


def group_numbers(service: JsonObject) -> dict[GroupKey, int]:
    """The group numbers of a Service's ports; empty while it has none, or none that can be read."""
    annotations = service["metadata"].get("annotations") or {}
    try:
        return parse_group_numbers(annotations.get(identity.GROUP_NUMBERS, ""))
    except ValueError:
        return {}
