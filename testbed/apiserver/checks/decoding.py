"""What a body says of an object that cannot be read as its kind, in the words of Go's decoder.

``json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32``: the type in which the
field stands, the way to it (without places in lists), and what may stand there (``encoding/json``, UnmarshalTypeError).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any

from testbed.cluster.kinds import SECRET, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity
from testbed.cluster.schemas import FieldPath, definition_names, definitions

_REFERENCE = "#/$defs/"
_QUANTITY, _INT_OR_STRING = "Quantity", "IntOrString"
_NO_QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n")


def type_problem(kind: Kind, path: FieldPath, value: Any) -> str:
    """Why the value of a field is none of the field's type."""
    node: JsonObject = {"$ref": _REFERENCE + definition_names()[kind.group, kind.version, kind.name]}
    struct, fields = "", list[str]()
    for part in path:
        resolved = _resolved(node)
        if isinstance(part, int):
            node = resolved.get("items") or {}
        elif part in resolved.get("properties", {}):
            struct = _short(node) or struct
            fields.append(part)
            node = resolved["properties"][part]
        else:
            others = resolved.get("additionalProperties")
            node = others if isinstance(others, dict) else {}
    short = _short(node)
    if short == _QUANTITY:
        return _NO_QUANTITY
    if short == _INT_OR_STRING:
        return f"json: cannot unmarshal {_kind(value)} into Go value of type int32"
    where = ".".join([struct, *fields])
    return f"json: cannot unmarshal {_kind(value)} into Go struct field {where} of type {_type(node)}"


def value_problems(kind: Kind, wire: JsonObject) -> Iterator[str]:
    """What stands in texts that are read further: quantities, and the base64 of a Secret. The types are right."""
    for container in _containers(wire):
        resources = container.get("resources") or {}
        for amounts in (resources.get("limits"), resources.get("requests")):
            for amount in (amounts or {}).values():
                try:
                    quantity(str(amount))
                except ValueError:
                    yield _NO_QUANTITY
    if kind is SECRET:
        for text in (wire.get("data") or {}).values():
            yield from _base64_problem(text)


def _containers(wire: JsonObject) -> Iterator[JsonObject]:
    spec = wire.get("spec") or {}
    template = spec.get("template")
    pod = ((template or {}).get("spec") or {}) if isinstance(template, dict) else spec
    for part in ("initContainers", "containers"):
        yield from (each for each in pod.get(part) or () if isinstance(each, dict))


def _base64_problem(text: str) -> Iterator[str]:
    data = text.encode()
    try:
        base64.b64decode(data.replace(b"\r", b"").replace(b"\n", b""), validate=True)
    except binascii.Error:
        wrong = next((at for at, byte in enumerate(data) if byte not in _BASE64), len(data) - len(data) % 4)
        yield f"illegal base64 data at input byte {wrong}"


def _resolved(node: JsonObject) -> JsonObject:
    reference = node.get("$ref")
    return node if reference is None else definitions()[reference.removeprefix(_REFERENCE)]


def _short(node: JsonObject) -> str:
    """The name of a definition's type; empty when the node is no definition."""
    return str(node.get("$ref", "")).rpartition(".")[2]


def _type(node: JsonObject) -> str:
    """The Go type of a field."""
    if "$ref" in node:
        return ".".join(str(node["$ref"]).split(".")[-2:])
    types = node.get("type", [])
    name = next((each for each in ([types] if isinstance(types, str) else types) if each != "null"), "object")
    if name == "array":
        return "[]" + _type(node.get("items") or {})
    if name == "object":
        others = node.get("additionalProperties")
        return "map[string]" + _type(others if isinstance(others, dict) else {"type": "string"})
    return {"integer": str(node.get("format", "int64")), "number": "float64", "boolean": "bool"}.get(name, name)


def _kind(value: Any) -> str:
    """What JSON calls a value; a number that is not whole with what it is."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, float):
        return f"number {value:g}"
    return {str: "string", int: "number", list: "array", dict: "object"}.get(type(value), "null")
