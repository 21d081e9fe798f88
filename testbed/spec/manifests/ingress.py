"""networking.k8s.io/v1 Ingress and IngressClass (https://kubernetes.io/docs/concepts/services-networking/ingress/)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from testbed.cluster.objects import JsonObject
from testbed.errors import Problem
from testbed.spec.endpoints import DNS_SUBDOMAIN_FORM
from testbed.spec.manifests.fields import Fields, object_fields
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.manifests.metadata import one_of, subdomain_problems
from testbed.spec.manifests.ports import number_problems
from testbed.spec.source import FieldPath

_BACKEND: Fields = {"service": {"name": None, "port": dict.fromkeys(("name", "number"))}}
INGRESS_FIELDS = object_fields(
    spec={
        "ingressClassName": None,
        "defaultBackend": _BACKEND,
        "rules": {"host": None, "http": {"paths": {"path": None, "pathType": None, "backend": _BACKEND}}},
        "tls": dict.fromkeys(("hosts", "secretName")),
    }
)
CLASS_FIELDS = object_fields(spec={"controller": None})

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_HOST_FORM = f"{DNS_SUBDOMAIN_FORM}, the first label may be *"
_PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific")
_CONTROLLER = re.compile(rf"{_LABEL}(\.{_LABEL})*(/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+)?")


def problems(manifest: Manifest) -> Iterator[Problem]:
    """An Ingress."""
    yield from subdomain_problems(manifest)
    spec = manifest.spec
    rules = spec.get("rules") or []
    if not rules and not spec.get("defaultBackend"):
        yield manifest.problem(("spec",), "needs rules or a defaultBackend")
    if backend := spec.get("defaultBackend"):
        yield from _backend_problems(manifest, ("spec", "defaultBackend"), backend)
    for index, rule in enumerate(rules):
        here: FieldPath = ("spec", "rules", index)
        yield from _host_problems(manifest, (*here, "host"), rule.get("host"))
        for number, entry in enumerate((rule.get("http") or {}).get("paths") or ()):
            where: FieldPath = (*here, "http", "paths", number)
            kind, path = entry.get("pathType"), entry.get("path")
            yield from one_of(manifest, (*where, "pathType"), kind, _PATH_TYPES)
            if kind in ("Exact", "Prefix") and not str(path or "").startswith("/"):
                yield manifest.problem((*where, "path"), "must be an absolute path", path or "nothing", "/...")
            elif path is not None and any(bad in path for bad in ("//", "/./", "/../", "%2f", "%2F")):
                yield manifest.problem((*where, "path"), "has parts that a path must not have", path)
            yield from _backend_problems(manifest, (*where, "backend"), entry.get("backend") or {})
    for index, entry in enumerate(spec.get("tls") or ()):
        for number, host in enumerate(entry.get("hosts") or ()):
            yield from _host_problems(manifest, ("spec", "tls", index, "hosts", number), host)


def class_problems(manifest: Manifest) -> Iterator[Problem]:
    """An IngressClass."""
    yield from subdomain_problems(manifest)
    controller = manifest.spec.get("controller")
    if controller is None or not _CONTROLLER.fullmatch(controller):
        allowed = "a domain and a path, such as k8s.io/ingress-nginx"
        yield manifest.problem(("spec", "controller"), "is not a controller's name", controller or "nothing", allowed)


def _host_problems(manifest: Manifest, path: FieldPath, host: str | None) -> Iterator[Problem]:
    if host and not (len(host) <= 253 and _HOST.fullmatch(host)):
        yield manifest.problem(path, "is not a host's name", host, _HOST_FORM)


def _backend_problems(manifest: Manifest, path: FieldPath, backend: JsonObject) -> Iterator[Problem]:
    service = backend.get("service")
    if service is None:
        message = "is not supported" if "resource" in backend else "is required"
        field = "resource" if "resource" in backend else "service"
        yield manifest.problem((*path, field), message, allowed="service")
        return
    port = service.get("port") or {}
    if ("name" in port) == ("number" in port):
        yield manifest.problem((*path, "service", "port"), "needs a name or a number, and only one of them")
    yield from number_problems(manifest, (*path, "service", "port", "number"), port.get("number"))
