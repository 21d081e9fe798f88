"""How a pod, a node, an external host or a Service is written: in an experiment's paths and on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject, is_valid_name, object_name, object_namespace

ENDPOINT_FORM = "POD, NAMESPACE/POD, pod/NAMESPACE/POD, node/NODE or ext/HOST"
TARGET_FORM = f"{ENDPOINT_FORM}, each with :PORT if need be; service/NAME:PORT or loadbalancer/NAME:PORT"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_LABEL_FORM = "at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
DNS_SUBDOMAIN_FORM = "a-z, 0-9, - and ., each part beginning and ending with a letter or digit"

_SERVICE_KINDS = ("service", "loadbalancer")
# Words before the first slash that say the kind; a namespace of such a name needs the full form.
_KINDS = ("pod", "node", "ext", *_SERVICE_KINDS)
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, order=True)
class EndpointRef:
    """Which pod, node or external host is meant. ``namespace`` is empty unless it is a pod."""

    kind: Literal["pod", "node", "ext"]
    namespace: str
    name: str

    def __str__(self) -> str:
        if self.kind != "pod":
            return f"{self.kind}/{self.name}"
        if self.namespace == DEFAULT_NAMESPACE:
            return self.name
        prefix = "pod/" if self.namespace in _KINDS else ""
        return f"{prefix}{self.namespace}/{self.name}"


@dataclass(frozen=True, order=True)
class ServiceRef:
    """Which Service is meant, at which of its addresses: the cluster IP, or the load balancer's."""

    address: Literal["service", "loadbalancer"]
    namespace: str
    name: str

    def __str__(self) -> str:
        namespace = "" if self.namespace == DEFAULT_NAMESPACE else f"{self.namespace}/"
        return f"{self.address}/{namespace}{self.name}"


@dataclass(frozen=True, order=True)
class Target:
    """Where requests go: to an endpoint or to a Service (one of the two is None), and to which port of it.

    ``port`` is None where none is written; a Service's is always written.
    As text it is what a person writes: ``service/web:80``, ``node/n1:30080``, ``client``.
    """

    endpoint: EndpointRef | None
    service: ServiceRef | None
    port: int | None

    def __str__(self) -> str:
        return f"{self.service or self.endpoint}" + (f":{self.port}" if self.port is not None else "")


def pod_reference(pod: JsonObject) -> EndpointRef:
    """How a pod is called in paths and on the command line."""
    return EndpointRef("pod", object_namespace(pod), object_name(pod))


def parse_endpoint(text: str) -> EndpointRef:
    """Read ``web``, ``prod/web``, ``pod/web``, ``pod/prod/web``, ``node/n1`` or ``ext/ext1``.

    ``pod``, ``node``, ``ext``, ``service`` and ``loadbalancer`` before the first slash always say the kind, so a pod in
    a namespace that has one of these names is written in full: ``pod/node/web``. Raises ValueError when the text is
    none of these.
    """
    parts = text.split("/")
    kind: Literal["pod", "node", "ext"] = "pod"
    if len(parts) > 1 and parts[0] in _KINDS:
        if parts[0] in _SERVICE_KINDS:
            raise ValueError(ENDPOINT_FORM)
        kind = "node" if parts[0] == "node" else "ext" if parts[0] == "ext" else "pod"
        parts = parts[1:]
    if kind == "pod" and len(parts) == 1:
        parts = [DEFAULT_NAMESPACE, *parts]
    if kind != "pod":
        parts = ["", *parts]
    if len(parts) != 2 or not is_valid_name(parts[1]) or (kind == "pod" and not DNS_LABEL.fullmatch(parts[0])):
        raise ValueError(ENDPOINT_FORM)
    return EndpointRef(kind, parts[0], parts[1])


def parse_target(text: str) -> Target:
    """Read an endpoint, an endpoint with a port (``web:8080``, ``node/n1:30080``) or a Service's port.

    A Service is ``service/[NAMESPACE/]NAME:PORT`` at its cluster IP, ``loadbalancer/[NAMESPACE/]NAME:PORT`` at its load
    balancer's address. Raises ValueError when the text is none of these.
    """
    place, separator, number = text.partition(":")
    port = int(number) if _PORT.fullmatch(number) else None
    if separator and (port is None or not 1 <= port <= 65535):
        raise ValueError(TARGET_FORM)
    kind, _, rest = place.partition("/")
    try:
        if kind not in _SERVICE_KINDS or not rest:
            return Target(parse_endpoint(place), None, port)
        # A Service is named as a pod is; its own name has no dots.
        named = parse_endpoint(f"pod/{rest}")
    except ValueError:
        raise ValueError(TARGET_FORM) from None
    if port is None or not DNS_LABEL.fullmatch(named.name):
        raise ValueError(TARGET_FORM)
    address: Literal["service", "loadbalancer"] = "service" if kind == "service" else "loadbalancer"
    return Target(None, ServiceRef(address, named.namespace, named.name), port)
