"""Label and field selectors of API requests, as predicates over objects."""

from __future__ import annotations

import re
from collections.abc import Callable

from testbed.cluster.kinds import EVENT, JOB, NAMESPACE, NODE, POD, REPLICA_SET, SECRET, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest
from testbed.cluster.store import Matches

Read = Callable[[JsonObject], object]


def _at(*path: str) -> Read:
    """The text at a path; empty when there is none."""

    def read(wire: JsonObject) -> object:
        value: object = wire
        for part in path:
            if not isinstance(value, dict):
                return ""
            value = value.get(part)
        return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    return read


# The fields that can be selected by; the API server, too, supports only a few for each kind.
_FIELDS: dict[str, Read] = {
    "metadata.name": _at("metadata", "name"),
    "metadata.namespace": _at("metadata", "namespace"),
}
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
_FIELDS_OF: dict[Kind, dict[str, Read]] = {
    POD: {
        ".".join(path): _at(*path)
        for path in (
            ("spec", "nodeName"),
            ("spec", "restartPolicy"),
            ("spec", "schedulerName"),
            ("spec", "hostNetwork"),
            ("status", "phase"),
            ("status", "podIP"),
            ("status", "nominatedNodeName"),
        )
    },
    EVENT: {
        **{f"involvedObject.{name}": _at("involvedObject", name) for name in _INVOLVED},
        **{f"regarding.{name}": _at("involvedObject", name) for name in _INVOLVED},
        "type": _at("type"),
        "reason": _at("reason"),
        "source": _at("source", "component"),
        "reportingComponent": _at("reportingComponent"),
        "reportingController": _at("reportingComponent"),
    },
    NODE: {"spec.unschedulable": _at("spec", "unschedulable")},
    NAMESPACE: {"status.phase": _at("status", "phase")},
    SECRET: {"type": _at("type")},
    REPLICA_SET: {"status.replicas": _at("status", "replicas")},
    JOB: {"status.successful": _at("status", "succeeded")},
}

_SET_TERM = re.compile(r"\s*(?P<key>[^\s,!=()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^()]*)\)\s*")
_TERM = re.compile(r"\s*(?P<key>[^\s,!=()<>]+)\s*(?P<operator>!=|==|=)\s*(?P<value>[^\s,!=()<>]*)\s*")
_PRESENT = re.compile(r"\s*(?P<not>!?)\s*(?P<key>[^\s,!=()<>]+)\s*")


def parse_selection(
    namespace: str | None, label_selector: str, field_selector: str, kind: Kind | None = None
) -> Matches | None:
    """What a request selects, or None when it selects everything.

    Labels: ``key=value``, ``==``, ``!=``, ``key``, ``!key``, ``key in (a, b)``, ``key notin (a, b)``, joined by commas.
    Fields: ``=``, ``==``, ``!=``; which, depends on the kind. Raises BadRequest.
    """
    conditions: list[Matches] = []
    if namespace is not None:
        conditions.append(lambda wire: wire["metadata"].get("namespace") == namespace)
    conditions += _label_conditions(label_selector)
    fields = {**_FIELDS, **(_FIELDS_OF.get(kind, {}) if kind is not None else {})}
    conditions += [_field_condition(term.strip(), fields) for term in field_selector.split(",") if term.strip()]
    if not conditions:
        return None
    if len(conditions) == 1:
        return conditions[0]
    return lambda wire: all(condition(wire) for condition in conditions)


def _label_conditions(selector: str) -> list[Matches]:
    conditions: list[Matches] = []
    rest = selector
    while rest.strip(" ,"):
        for pattern in (_SET_TERM, _TERM, _PRESENT):
            found = pattern.match(rest)
            if found is not None and rest[found.end() : found.end() + 1] in ("", ","):
                conditions.append(_label_condition(found))
                rest = rest[found.end() + 1 :]
                break
        else:
            raise BadRequest(f"unable to parse label selector {selector!r}: found {rest.strip()!r}")
    return conditions


def _label_condition(term: re.Match[str]) -> Matches:
    key, parts = term["key"], term.groupdict()
    if "values" in parts:
        values = {value.strip() for value in parts["values"].split(",")}
        is_in = parts["operator"] == "in"
        return lambda wire: (_labels(wire).get(key) in values) is is_in
    if "value" in parts:
        value, equal = parts["value"], parts["operator"] != "!="
        return lambda wire: (_labels(wire).get(key) == value) is equal
    present = not parts["not"]
    return lambda wire: (key in _labels(wire)) is present


def _field_condition(term: str, fields: dict[str, Read]) -> Matches:
    key, equal, value = _split(term)
    read = fields.get(key)
    if read is None or equal is None:
        raise BadRequest(f"field selector {term!r} is not supported; fields: {', '.join(fields)}")
    return lambda wire: (read(wire) == value) is equal


def _split(term: str) -> tuple[str, bool | None, str]:
    """Key, whether the value must be equal (None: no operator), and value."""
    for operator, equal in (("!=", False), ("==", True), ("=", True)):
        key, found, value = term.partition(operator)
        if found:
            return key, equal, value
    return term, None, ""


def _labels(wire: JsonObject) -> JsonObject:
    labels: JsonObject = wire["metadata"].get("labels") or {}
    return labels
