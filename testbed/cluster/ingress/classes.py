"""Which Ingresses the controller serves: by class, by the older annotation, or as the default class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from testbed.cluster.objects import JsonObject, object_name

CONTROLLER = "k8s.io/ingress-nginx"
CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_DEFAULT_ANNOTATION = "ingressclass.kubernetes.io/is-default-class"
_ANNOTATED_CLASS = "nginx"  # what ingress-nginx takes unless it is told otherwise (--ingress-class)


class Verdict(NamedTuple):
    """Whether an Ingress is served; if not, ``trouble`` says why nobody does, "" when another controller may."""

    served: bool
    trouble: str = ""


def class_verdict(ingress: JsonObject, classes: Iterable[JsonObject]) -> Verdict:
    """Whether an Ingress is the controller's, by the IngressClasses that there are.

    The annotation goes before the field, as in ingress-nginx; an Ingress with neither has the default class.
    """
    annotated = (ingress["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION)
    if annotated:
        return Verdict(annotated == _ANNOTATED_CLASS)
    by_name = {object_name(wire): wire for wire in classes}
    name = (ingress.get("spec") or {}).get("ingressClassName")
    if name is None:
        if any(is_default(wire) and _is_ours(wire) for wire in by_name.values()):
            return Verdict(True)
        return Verdict(False, "it names no ingressClassName, and no IngressClass is the default")
    if not isinstance(name, str) or name not in by_name:
        return Verdict(False, f"there is no IngressClass {name}")
    return Verdict(_is_ours(by_name[name]))


def _is_ours(ingress_class: JsonObject) -> bool:
    return (ingress_class.get("spec") or {}).get("controller") == CONTROLLER


def is_default(ingress_class: JsonObject) -> bool:
    """Whether Ingresses that name no class have this one."""
    return (ingress_class["metadata"].get("annotations") or {}).get(_DEFAULT_ANNOTATION) == "true"
