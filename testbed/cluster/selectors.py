"""Label and field selectors of API requests, as predicates over objects."""

from __future__ import annotations

from collections.abc import Callable

from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest
from testbed.cluster.store import Matches

# The fields that can be selected by; the API server, too, supports only a few for each kind.
_FIELDS: dict[str, Callable[[JsonObject], object]] = {
    "metadata.name": lambda wire: wire["metadata"]["name"],
    "metadata.namespace": lambda wire: wire["metadata"].get("namespace", ""),
    "spec.nodeName": lambda wire: wire.get("spec", {}).get("nodeName", ""),
    "status.phase": lambda wire: wire.get("status", {}).get("phase", ""),
}


def parse_selection(namespace: str | None, label_selector: str, field_selector: str) -> Matches | None:
    """What a request selects, or None when it selects everything.

    Labels: ``key=value``, ``==``, ``!=``, ``key`` and ``!key``, joined by commas (the set-based ``in (...)`` is not
    understood). Fields: ``=``, ``==``, ``!=``. Raises BadRequest.
    """
    conditions: list[Matches] = []
    if namespace is not None:
        conditions.append(lambda wire: wire["metadata"].get("namespace") == namespace)
    conditions += [_label_condition(term.strip()) for term in label_selector.split(",") if term.strip()]
    conditions += [_field_condition(term.strip()) for term in field_selector.split(",") if term.strip()]
    if not conditions:
        return None
    return lambda wire: all(condition(wire) for condition in conditions)


def _label_condition(term: str) -> Matches:
    if any(character in term for character in "() "):
        raise BadRequest(f"unable to parse label selector {term!r}: set-based selectors are not supported")
    key, equal, value = _split(term)
    if equal is None:
        present = not key.startswith("!")
        return lambda wire: (key.lstrip("!") in _labels(wire)) is present
    return lambda wire: (_labels(wire).get(key) == value) is equal


def _field_condition(term: str) -> Matches:
    key, equal, value = _split(term)
    read = _FIELDS.get(key)
    if read is None or equal is None:
        raise BadRequest(f"field selector {term!r} is not supported; fields: {', '.join(_FIELDS)}")
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
