"""The class of an Ingress that names none: written into it when it is created, as the API server does
(https://kubernetes.io/docs/concepts/services-networking/ingress/#default-ingress-class)."""

from __future__ import annotations

from testbed.cluster.ingress.classes import CLASS_ANNOTATION, is_default
from testbed.cluster.kinds import INGRESS, INGRESS_CLASS, Kind
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.store import Admission


def default_class_admission() -> Admission:
    """The hook for a store that has no IngressClasses yet. Of several default classes the newest is taken."""
    defaults: dict[str, str] = {}  # by name, when it was created

    def admit(kind: Kind, old: JsonObject | None, new: JsonObject | None) -> None:
        if kind is INGRESS_CLASS:
            if old is not None:
                defaults.pop(object_name(old), None)
            if new is not None and is_default(new):
                defaults[object_name(new)] = str(new["metadata"].get("creationTimestamp") or "")
        elif kind is INGRESS and old is None and new is not None and defaults:
            spec = new.setdefault("spec", {})
            if not (new["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION):
                newest = max(defaults.values())
                spec.setdefault("ingressClassName", min(name for name, at in defaults.items() if at == newest))

    return admit
