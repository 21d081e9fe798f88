"""How a pod, a node or an external host is written: in an experiment's paths and on the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from testbed.cluster.objects import DEFAULT_NAMESPACE, is_valid_name

ENDPOINT_FORM = "POD, NAMESPACE/POD, pod/NAMESPACE/POD, node/NODE or ext/HOST"

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DNS_LABEL_FORM = "at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit"
DNS_SUBDOMAIN_FORM = "a-z, 0-9, - and ., each part beginning and ending with a letter or digit"


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
        prefix = "pod/" if self.namespace in ("pod", "node", "ext") else ""
        return f"{prefix}{self.namespace}/{self.name}"


def parse_endpoint(text: str) -> EndpointRef:
    """Read ``web``, ``prod/web``, ``pod/web``, ``pod/prod/web``, ``node/n1`` or ``ext/ext1``.

    ``pod``, ``node`` and ``ext`` before the first slash always say the kind, so a pod in a namespace that has one of
    these names is written in full: ``pod/node/web``. Raises ValueError when the text is none of these.
    """
    parts = text.split("/")
    kind: Literal["pod", "node", "ext"] = "pod"
    if len(parts) > 1 and parts[0] in ("pod", "node", "ext"):
        kind = "node" if parts[0] == "node" else "ext" if parts[0] == "ext" else "pod"
        parts = parts[1:]
    if kind == "pod" and len(parts) == 1:
        parts = [DEFAULT_NAMESPACE, *parts]
    if kind != "pod":
        parts = ["", *parts]
    is_form = len(parts) == 2 and is_valid_name(parts[1]) and (kind != "pod" or DNS_LABEL.fullmatch(parts[0]))
    if not is_form:
        raise ValueError(ENDPOINT_FORM)
    return EndpointRef(kind, parts[0], parts[1])
