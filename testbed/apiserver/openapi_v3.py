"""``/openapi/v3``: the same schemas as ``/openapi/v2``, a document for each group and version.

``kubectl`` of today explains, merges and tries by them. The index names the documents, each with a hash of what it
says, so that clients keep what they have read
(https://kubernetes.io/docs/concepts/overview/kubernetes-api/#openapi-v3).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import Any

from testbed.apiserver.exchange import JSON, Exchange, encode
from testbed.apiserver.openapi import INFO, PATCH_MEDIA, PATCH_PARAMETERS, referenced
from testbed.apiserver.paths import not_found
from testbed.cluster.kinds import ABSENT_KINDS, KINDS, Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import definition_names
from testbed.cluster.versions import OTHER_VERSIONS

_ROOT = "/openapi/v3"
_TO = "#/components/schemas/"
_PATCH = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
_ONE_YEAR_S = 365 * 24 * 3600


def is_openapi_v3(path: str) -> bool:
    return path == _ROOT or path.startswith(_ROOT + "/")


def answer_openapi_v3(exchange: Exchange, path: str) -> None:
    """Answer by the index, or by one document. Raises NotFound."""
    if path == _ROOT:
        exchange.answer_bytes(200, JSON, _index())
        return
    group_version = path.removeprefix(_ROOT + "/")
    if group_version not in _kinds():
        raise not_found()
    payload = _document(group_version)
    fresh = exchange.query.text("hash") == _hash(payload)  # this address says this for good
    headers = {"Cache-Control": f"public, max-age={_ONE_YEAR_S}, immutable"} if fresh else None
    exchange.answer_bytes(200, JSON, payload, headers)


@cache
def _index() -> bytes:
    paths = {name: {"serverRelativeURL": f"{_ROOT}/{name}?hash={_hash(_document(name))}"} for name in _kinds()}
    return encode({"paths": paths})


def _hash(payload: bytes) -> str:
    return hashlib.sha256(payload).hexdigest().upper()


@cache
def _kinds() -> dict[str, list[Kind]]:
    """The kinds of each document, by the path of their group and version; old versions have no schema any more."""
    found: dict[str, list[Kind]] = {}
    others = (replace(other.kind, group=other.group, version=other.version) for other in OTHER_VERSIONS)
    for kind in (*KINDS, *ABSENT_KINDS, *others):
        if (kind.group, kind.version, kind.name) in definition_names():
            path = f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"
            found.setdefault(path, []).append(kind)
    return found


@cache
def _document(group_version: str) -> bytes:
    kinds, names = _kinds()[group_version], definition_names()
    wanted = [names[kind.group, kind.version, kind.name] for kind in kinds]
    schemas = referenced([*wanted, _PATCH], _plain, _TO)
    return encode(
        {
            "openapi": "3.0.0",
            "info": INFO,
            "paths": {kind.path("{namespace}", "{name}"): {"patch": _patch(kind)} for kind in kinds},
            "components": {"schemas": schemas},
        }
    )


def _patch(kind: Kind) -> JsonObject:
    schema = {"$ref": _TO + _PATCH}
    return {
        "operationId": f"patch{kind.group}{kind.version}{kind.name}",
        "parameters": [
            {"name": name, "in": "query", "schema": {"type": "boolean" if name == "force" else "string"}}
            for name in PATCH_PARAMETERS
        ],
        "requestBody": {"content": {media: {"schema": schema} for media in PATCH_MEDIA}},
        "responses": {"200": {"description": "OK"}},
        "x-kubernetes-group-version-kind": {"group": kind.group, "version": kind.version, "kind": kind.name},
    }


def _plain(node: Any) -> Any:
    """A definition of JSON Schema as OpenAPI 3.0 has it: one type, and nothing beside a reference."""
    if isinstance(node, list):
        return [_plain(entry) for entry in node]
    if not isinstance(node, dict):
        return node
    plain: JsonObject = {}
    for name, value in node.items():
        if name == "$ref":
            reference = {"$ref": _TO + value.removeprefix("#/$defs/")}
            if len(node) == 1:
                return reference
            plain["allOf"] = [reference]
        elif name == "type" and isinstance(value, list):
            plain[name] = next(each for each in value if each != "null")
        elif name == "properties":
            plain[name] = {field: _plain(inner) for field, inner in value.items()}
        elif (name == "additionalProperties" and isinstance(value, bool)) or (name == "enum" and len(value) == 1):
            continue  # what these schemas add to Kubernetes' own: no other fields, and the version and kind themselves
        else:
            plain[name] = value if name.startswith("x-") else _plain(value)
    return plain
