"""Ingresses and what they name, as people write them, and the translation of a handful of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.cluster.ingress.translation import Sources, Translation, translate
from testbed.cluster.objects import JsonObject, object_name, object_namespace

CLASS = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "IngressClass",
    "metadata": {"name": "nginx"},
    "spec": {"controller": "k8s.io/ingress-nginx"},
}


def path(path_type: str, text: str | None, service: str, port: int | str = 80) -> JsonObject:
    """One path of a rule."""
    number = {"number": port} if isinstance(port, int) else {"name": port}
    entry: JsonObject = {"pathType": path_type, "backend": {"service": {"name": service, "port": number}}}
    return entry if text is None else {"path": text, **entry}


def rule(host: str | None, *paths: JsonObject) -> JsonObject:
    """One rule; None is any host."""
    return {**({"host": host} if host else {}), "http": {"paths": list(paths)}}


def ingress(
    name: str, *rules: JsonObject, age: int = 0, annotations: dict[str, str] | None = None, **spec: Any
) -> JsonObject:
    """An Ingress of the class nginx, older by ``age``. ``nginx.`` stands for the annotations' prefix."""
    annotations = {
        key.replace("nginx.", "nginx.ingress.kubernetes.io/"): text for key, text in (annotations or {}).items()
    }
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "namespace": "default",
            "uid": f"uid-{name}",
            "creationTimestamp": f"2026-01-01T00:00:{59 - age:02}Z",
            "annotations": annotations,
        },
        "spec": {"ingressClassName": "nginx", **({"rules": list(rules)} if rules else {}), **spec},
    }


def translated(
    *ingresses: JsonObject,
    services: Iterable[str] = ("web", "api", "other"),
    classes: Iterable[JsonObject] = (CLASS,),
    certificates: Iterable[str] = ("tls",),
) -> Translation:
    """The translation where each of the Services has the ports 80 (http) and 8080 (admin)."""
    ports = [{"name": "http", "port": 80}, {"name": "admin", "port": 8080}]
    known = {("default", name): {"metadata": {"name": name}, "spec": {"ports": ports}} for name in services}
    good = {("default", name) for name in certificates}
    return translate(
        Sources(
            ingresses,
            list(classes),
            known.get,
            lambda key: "" if key in good else f"Secret {key[0]}/{key[1]} does not exist",
        )
    )


def findings(translation: Translation) -> list[tuple[str, str, str]]:
    """What was found: the Ingress, the reason and the message."""
    return [
        (f"{object_namespace(one.ingress)}/{object_name(one.ingress)}", one.reason, one.message)
        for one in translation.findings
    ]
