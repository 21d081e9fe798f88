"""``/openapi/v2``: the schema of what is served, which ``kubectl`` validates, merges and explains by.

Made of Kubernetes' own definitions (:mod:`testbed.cluster.schemas`). ``kubectl`` asks for it as protocol buffers
(``openapi.v2.Document`` of https://github.com/google/gnostic), everything else gets JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import Any

from testbed.apiserver.exchange import JSON, Exchange, encode
from testbed.apiserver.protobuf import field, text
from testbed.cluster.kinds import ABSENT_KINDS, KINDS, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import definition_names, definitions
from testbed.cluster.versions import OTHER_VERSIONS

# What old clients accept has no parameter: the part after the @ is not one, and Go's parser refuses it in an answer.
_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
_ASKED_FOR = "application/com.github.proto-openapi.spec.v2"
_PREFIX = "#/$defs/"
_TO = "#/definitions/"
INFO = {"title": "Kubernetes", "version": "v1.32.0"}
PATCH_PARAMETERS = ("dryRun", "fieldManager", "fieldValidation", "force")
"""The parameters of PATCH that clients look for before they use them."""
PATCH_MEDIA = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)


def answer_openapi(exchange: Exchange) -> None:
    """Answer in the form that the request accepts."""
    accepted = str(exchange.headers.get("Accept") or JSON)
    if accepted.lstrip().startswith(_ASKED_FOR):
        exchange.answer_bytes(200, _PROTOBUF, _protobuf_document())
    else:
        exchange.answer_bytes(200, JSON, _json_document())


@cache
def _json_document() -> bytes:
    return encode(document())


@cache
def document() -> JsonObject:
    """The document (Swagger 2.0): the definitions of all kinds, and of their operations what clients look for."""
    names = definition_names()
    wanted = [names[kind.group, kind.version, kind.name] for kind in (*KINDS, *ABSENT_KINDS)]
    return {
        "swagger": "2.0",
        "info": INFO,
        "paths": _paths(),
        "definitions": referenced(wanted, _plain, _TO),
    }


def referenced(names: Iterable[str], plain: Callable[[JsonObject], JsonObject], prefix: str) -> JsonObject:
    """Definitions, and all that they refer to by ``prefix``, in the form that ``plain`` gives them; sorted by name."""
    wanted, found = list(names), dict[str, JsonObject]()
    while wanted:
        name = wanted.pop()
        if name not in found:
            found[name] = plain(definitions()[name])
            wanted += _references(found[name], prefix)
    return dict(sorted(found.items()))


def _paths() -> JsonObject:
    paths = {
        _object_path(kind): {"patch": _patch_operation(kind.group, kind.version, kind.name)}
        for kind in (*KINDS, *ABSENT_KINDS)
    }
    for other in OTHER_VERSIONS:
        named = replace(other.kind, group=other.group, version=other.version)
        paths[_object_path(named)] = {"patch": _patch_operation(other.group, other.version, other.kind.name)}
    return paths


def _object_path(kind: Kind) -> str:
    return kind.path("{namespace}", "{name}")


def _patch_operation(group: str, version: str, kind: str) -> JsonObject:
    return {
        "operationId": f"patch{group}{version}{kind}",
        "consumes": list(PATCH_MEDIA),
        "produces": [JSON],
        "parameters": [
            {"name": name, "in": "query", "type": "boolean" if name == "force" else "string", "uniqueItems": True}
            for name in PATCH_PARAMETERS
        ],
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
    }


def _plain(node: Any) -> Any:
    """A definition of JSON Schema as Swagger 2.0 has it: one type, references under ``definitions``."""
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    if "oneOf" in node:  # IntOrString and Quantity, which Swagger cannot say
        form = "int-or-string" if any("integer" in choice.get("type", ()) for choice in node["oneOf"]) else ""
        said = {"description": node["description"]} if "description" in node else {}
        return {**said, "type": "string", **({"format": form} if form else {})}
    plain: JsonObject = {}
    for name, value in node.items():
        if name == "$ref":
            plain[name] = _TO + value.removeprefix(_PREFIX)
        elif name == "type" and isinstance(value, list):
            plain[name] = next(each for each in value if each != "null")
        elif name == "properties":
            plain[name] = {field: _plain(inner) for field, inner in value.items()}
        elif name == "additionalProperties" and isinstance(value, bool):
            continue
        else:
            plain[name] = value if name.startswith("x-") else _plain(value)
    return plain


def _references(node: Any, prefix: str) -> list[str]:
    if isinstance(node, list):
        return [name for entry in node for name in _references(entry, prefix)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"].removeprefix(prefix)] if isinstance(node.get("$ref"), str) else []
    return own + [name for inner in node.values() for name in _references(inner, prefix)]


# The protocol buffers: field numbers of openapi.v2, message by message.


@cache
def _protobuf_document() -> bytes:
    made = document()
    info = text(1, made["info"]["title"]) + text(2, made["info"]["version"])
    paths = b"".join(
        field(2, text(1, path) + field(2, field(8, _operation(item["patch"])))) for path, item in made["paths"].items()
    )
    definitions_ = b"".join(field(1, _named_schema(name, node)) for name, node in made["definitions"].items())
    return text(1, made["swagger"]) + field(2, info) + field(8, paths) + field(9, definitions_)


def _operation(operation: JsonObject) -> bytes:
    parts = [text(5, operation["operationId"])]
    parts += [text(6, media) for media in operation["produces"]] + [text(7, media) for media in operation["consumes"]]
    for parameter in operation["parameters"]:
        query = text(2, parameter["in"]) + text(4, parameter["name"]) + text(6, parameter["type"])
        parts.append(field(8, field(1, field(2, field(3, query)))))
    response = field(1, text(1, "200") + field(2, field(1, text(1, "OK"))))
    name = "x-kubernetes-group-version-kind"
    return b"".join(parts) + field(9, response) + field(13, _named_any(name, operation[name]))


def _named_schema(name: str, node: JsonObject) -> bytes:
    return text(1, name) + field(2, _schema(node))


def _schema(node: JsonObject) -> bytes:
    parts = []
    for name, number in (("$ref", 1), ("format", 2), ("description", 4)):
        if node.get(name):
            parts.append(text(number, node[name]))
    parts += [text(19, name) for name in node.get("required", ())]
    if isinstance(node.get("additionalProperties"), dict):
        parts.append(field(21, field(1, _schema(node["additionalProperties"]))))
    if "type" in node:
        parts.append(field(22, text(1, node["type"])))
    if "items" in node:
        parts.append(field(23, field(1, _schema(node["items"]))))
    if "properties" in node:
        named = (field(1, _named_schema(name, inner)) for name, inner in node["properties"].items())
        parts.append(field(25, b"".join(named)))
    parts += [field(31, _named_any(name, value)) for name, value in node.items() if name.startswith("x-")]
    return b"".join(parts)


def _named_any(name: str, value: Any) -> bytes:
    """A vendor extension; its value is YAML, of which JSON is a part."""
    return text(1, name) + field(2, text(2, json.dumps(value)))
