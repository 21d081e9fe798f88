"""Ports of containers, Services and endpoints: numbers, names and protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from testbed.cluster.objects import JsonObject
from testbed.cluster.values import PROTOCOLS
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_LABEL_FORM
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import is_dns_label, one_of, within
from testbed.spec.source import FieldPath

# RFC 6335 section 5.1: what a container calls its port and a targetPort names.
_SERVICE_NAME = re.compile(r"(?=.*[a-z])(?!.*--)[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?")
PORT_NAME_FORM = "at most 15 of a-z, 0-9 and -, at least one letter, no - at an end or beside another (RFC 6335)"


def is_port_name(name: str) -> bool:
    """Whether a container may call a port so."""
    return _SERVICE_NAME.fullmatch(name) is not None


def number_problems(manifest: Manifest, path: FieldPath, number: int | None) -> Iterator[Problem]:
    """A port's number."""
    yield from within(manifest, path, number, 1, 65535)


def protocol_of(entry: JsonObject) -> str:
    """The protocol of a port; TCP when it names none."""
    return str(entry.get("protocol") or "TCP")


def protocol_problems(manifest: Manifest, path: FieldPath, entry: JsonObject) -> Iterator[Problem]:
    """The protocol of one port."""
    yield from one_of(manifest, (*path, "protocol"), entry.get("protocol"), PROTOCOLS)


def port_names_problems(manifest: Manifest, path: FieldPath, entries: Sequence[JsonObject]) -> Iterator[Problem]:
    """Names of a Service's or an endpoint's ports: needed as soon as there are several, and each once."""
    first: dict[str, int] = {}
    for index, entry in enumerate(entries):
        name = entry.get("name") or ""
        if not name:
            if len(entries) > 1:
                yield manifest.problem((*path, index, "name"), "is required where there are several ports")
        elif not is_dns_label(name):
            yield manifest.problem((*path, index, "name"), "is not a name for a port", name, DNS_LABEL_FORM)
        elif first.setdefault(name, index) != index:
            message = f"two ports have this name; the first is [{first[name]}]"
            yield manifest.problem((*path, index, "name"), message, name)
