"""A container's probes
(https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.manifests.fields import Fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import one_of, within
from testbed.spec.manifests.ports import number_problems
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import FieldPath

_HANDLERS = ("httpGet", "tcpSocket", "exec")
# Kubernetes' smallest values; there is no largest but that of its type.
_MINIMUM = {
    "initialDelaySeconds": 0,
    "periodSeconds": 1,
    "timeoutSeconds": 1,
    "successThreshold": 1,
    "failureThreshold": 1,
}
_MAXIMUM = 2**31 - 1

PROBES = ("readinessProbe", "livenessProbe", "startupProbe")

PROBE_FIELDS: Fields = {
    "httpGet": dict.fromkeys(("path", "port", "host", "scheme", "httpHeaders")),
    "tcpSocket": dict.fromkeys(("port", "host")),
    "exec": dict.fromkeys(("command",)),
    **dict.fromkeys((*_MINIMUM, "terminationGracePeriodSeconds")),
}


def probe_problems(manifest: Manifest, path: FieldPath, container: JsonObject) -> Iterator[Problem]:
    """The probes of the container at ``path``."""
    for name in PROBES:
        if container.get(name) is not None:
            yield from _problems(manifest, (*path, name), container, container[name])


def _problems(manifest: Manifest, here: FieldPath, container: JsonObject, probe: JsonObject) -> Iterator[Problem]:
    if here[-1] != "readinessProbe" and probe.get("successThreshold", 1) != 1:
        yield manifest.problem((*here, "successThreshold"), "must be 1 here", probe["successThreshold"])
    if "grpc" in probe:
        yield manifest.problem((*here, "grpc"), "is not supported", allowed=names_text(_HANDLERS))
    given = [name for name in (*_HANDLERS, "grpc") if name in probe]
    if len(given) != 1:
        yield manifest.problem(here, "needs exactly one way to ask", names_text(given) or "none", names_text(_HANDLERS))
    for name, minimum in _MINIMUM.items():
        yield from within(manifest, (*here, name), probe.get(name), minimum, _MAXIMUM)
    for handler in ("httpGet", "tcpSocket"):
        if handler in probe:
            yield from _port_problems(manifest, (*here, handler, "port"), probe[handler]["port"], container)
    http = probe.get("httpGet") or {}
    yield from one_of(manifest, (*here, "httpGet", "scheme"), http.get("scheme"), ("HTTP", "HTTPS"))
    yield from _header_problems(manifest, (*here, "httpGet"), http)
    url_path = http.get("path") or "/"
    if not (url_path.isascii() and url_path.isprintable()) or " " in url_path or not url_path.startswith("/"):
        yield manifest.problem((*here, "httpGet", "path"), "is not a path", url_path, "begins with /, no spaces")
    command = (probe.get("exec") or {}).get("command") or []
    if "exec" in probe and (not command or not command[0] or any("\0" in word for word in command)):
        yield manifest.problem((*here, "exec", "command"), "is not a command line", command)


def _port_problems(manifest: Manifest, path: FieldPath, value: int | str, container: JsonObject) -> Iterator[Problem]:
    if not isinstance(value, str):
        yield from number_problems(manifest, path, value)
        return
    names = list(dict.fromkeys(entry["name"] for entry in container.get("ports") or () if "name" in entry))
    if value not in names:
        message = f"the container has no port of this name{suggestion(value, names)}"
        yield manifest.problem(path, message, value, names_text(names) or "a number, or name a port under ports")


def _header_problems(manifest: Manifest, path: FieldPath, http: JsonObject) -> Iterator[Problem]:
    """Header fields (RFC 9110 section 5) that could not be sent."""
    for index, header in enumerate(http.get("httpHeaders") or ()):
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", header["name"]):
            yield manifest.problem((*path, "httpHeaders", index, "name"), "is not a header's name", header["name"])
        if not header["value"].isascii() or not header["value"].isprintable():
            yield manifest.problem((*path, "httpHeaders", index, "value"), "is not a header's value", header["value"])
