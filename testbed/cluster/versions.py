"""Other versions in which kinds are served: converted to the stored one on the way in, and back on the way out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from testbed.cluster.kinds import CRON_JOB, EVENT, INGRESS, INGRESS_CLASS, POD_DISRUPTION_BUDGET, Kind
from testbed.cluster.objects import JsonObject

Convert = Callable[[JsonObject], JsonObject]


@dataclass(frozen=True)
class OtherVersion:
    """A kind under another group and version. ``warning`` is what a client that uses it is told."""

    kind: Kind
    group: str
    version: str
    to_stored: Convert
    from_stored: Convert
    warning: str = ""

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}"


def _ingress_to_stored(wire: JsonObject) -> JsonObject:
    """An Ingress of v1beta1 as networking.k8s.io/v1: backends have another form, and ``pathType`` had a default."""
    converted = {**wire, "apiVersion": INGRESS.api_version}
    if isinstance(wire.get("spec"), dict):
        spec = converted["spec"] = dict(wire["spec"])
        if "backend" in spec:
            spec["defaultBackend"] = _backend_to_stored(spec.pop("backend"))
        if isinstance(spec.get("rules"), list):
            spec["rules"] = [_rule(rule, _path_to_stored) for rule in spec["rules"]]
    return converted


def _ingress_from_stored(api_version: str) -> Convert:
    def convert(wire: JsonObject) -> JsonObject:
        spec = dict(wire.get("spec") or {})
        if "defaultBackend" in spec:
            spec["backend"] = _backend_from_stored(spec.pop("defaultBackend"))
        if isinstance(spec.get("rules"), list):
            spec["rules"] = [_rule(rule, _path_from_stored) for rule in spec["rules"]]
        return {**wire, "apiVersion": api_version, **({"spec": spec} if "spec" in wire else {})}

    return convert


def _rule(rule: Any, convert: Callable[[Any], Any]) -> Any:
    http = rule.get("http") if isinstance(rule, dict) else None
    if not isinstance(http, dict) or not isinstance(http.get("paths"), list):
        return rule
    return {**rule, "http": {**http, "paths": [convert(path) for path in http["paths"]]}}


def _path_to_stored(path: Any) -> Any:
    if not isinstance(path, dict):
        return path
    converted = {"pathType": "ImplementationSpecific", **path}
    if "backend" in path:
        converted["backend"] = _backend_to_stored(path["backend"])
    return converted


def _path_from_stored(path: Any) -> Any:
    return {**path, "backend": _backend_from_stored(path["backend"])} if "backend" in path else path


def _backend_to_stored(backend: Any) -> Any:
    if not isinstance(backend, dict) or "serviceName" not in backend:
        return backend
    rest = {name: value for name, value in backend.items() if name not in ("serviceName", "servicePort")}
    port = backend.get("servicePort")
    service: JsonObject = {"name": backend["serviceName"]}
    if port is not None:
        service["port"] = {"name": port} if isinstance(port, str) else {"number": port}
    return {**rest, "service": service}


def _backend_from_stored(backend: Any) -> Any:
    if not isinstance(backend, dict) or not isinstance(backend.get("service"), dict):
        return backend
    rest = {name: value for name, value in backend.items() if name != "service"}
    port = backend["service"].get("port") or {}
    return {
        **rest,
        "serviceName": backend["service"].get("name"),
        "servicePort": port.get("name") or port.get("number", 0),
    }


def _same_as_stored(kind: Kind, api_version: str) -> tuple[Convert, Convert]:
    """For versions that differ in nothing but their name."""
    return (
        lambda wire: {**wire, "apiVersion": kind.api_version},
        lambda wire: {**wire, "apiVersion": api_version},
    )


# events.k8s.io/v1 calls the fields of core/v1 otherwise.
_EVENT_FIELDS = {
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_EVENT_NAMES = {old: new for new, old in _EVENT_FIELDS.items()}


def _event_to_stored(wire: JsonObject) -> JsonObject:
    return {**{_EVENT_FIELDS.get(name, name): value for name, value in wire.items()}, "apiVersion": EVENT.api_version}


def _event_from_stored(wire: JsonObject) -> JsonObject:
    return {**{_EVENT_NAMES.get(name, name): value for name, value in wire.items()}, "apiVersion": "events.k8s.io/v1"}


def _old_ingress(group: str, gone_since: str) -> OtherVersion:
    warning = f"{group}/v1beta1 Ingress is deprecated, unavailable in {gone_since}+; use networking.k8s.io/v1 Ingress"
    back = _ingress_from_stored(f"{group}/v1beta1")
    return OtherVersion(INGRESS, group, "v1beta1", _ingress_to_stored, back, warning)


OTHER_VERSIONS: tuple[OtherVersion, ...] = (
    _old_ingress("networking.k8s.io", "v1.22"),
    OtherVersion(
        INGRESS_CLASS,
        "networking.k8s.io",
        "v1beta1",
        *_same_as_stored(INGRESS_CLASS, "networking.k8s.io/v1beta1"),
        "networking.k8s.io/v1beta1 IngressClass is deprecated, unavailable in v1.22+; "
        "use networking.k8s.io/v1 IngressClass",
    ),
    OtherVersion(
        POD_DISRUPTION_BUDGET,
        "policy",
        "v1beta1",
        *_same_as_stored(POD_DISRUPTION_BUDGET, "policy/v1beta1"),
        "policy/v1beta1 PodDisruptionBudget is deprecated in v1.21+, unavailable in v1.25+; "
        "use policy/v1 PodDisruptionBudget",
    ),
    _old_ingress("extensions", "v1.22"),
    OtherVersion(
        CRON_JOB,
        "batch",
        "v1beta1",
        *_same_as_stored(CRON_JOB, "batch/v1beta1"),
        "batch/v1beta1 CronJob is deprecated in v1.21+, unavailable in v1.25+; use batch/v1 CronJob",
    ),
    OtherVersion(EVENT, "events.k8s.io", "v1", _event_to_stored, _event_from_stored),
)
