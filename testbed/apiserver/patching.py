"""PATCH: the four forms of a change (JSON patch, merge patch, strategic merge patch, server-side apply)."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import jsonpatch

from testbed.apiserver.bodies import checked_object, json_object, json_value, media_type, yaml_object
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.patches.apply import apply
from testbed.apiserver.patches.managers import Manager
from testbed.apiserver.patches.strategic import strategic_merge
from testbed.apiserver.paths import Target
from testbed.apiserver.writing import WITH_STATUS, Change, Writer
from testbed.cluster.client import MERGE_PATCH
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import kind_schema
from testbed.cluster.status import BadRequest, Invalid, NotFound, UnsupportedMediaType
from testbed.cluster.store import Store, merge_patch

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

JSON_PATCH = "application/json-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
PATCHES = (JSON_PATCH, MERGE_PATCH, STRATEGIC_MERGE_PATCH, APPLY_PATCH)

_MOST_OPERATIONS = 10_000  # as many as the Kubernetes API server takes


def patch(exchange: Exchange, server: ApiServer, target: Target) -> tuple[int, JsonObject, Writer]:
    """Change an object as the request says; the answer's code, the object as stored, and what to tell the client."""
    writer = Writer(server, exchange, target)
    if media_type(exchange, "") == APPLY_PATCH:
        return _apply(exchange, server.store, target, writer)
    change = change_of(exchange, target)
    return 200, writer.update(lambda old: target.stored(change(target.shown(old)))), writer


def change_of(exchange: Exchange, target: Target) -> Change:
    """What the request's body makes of an object in the version asked for. Raises ApiError."""
    media = media_type(exchange, "")
    if media == MERGE_PATCH:
        changes = json_object(exchange.body)
        return lambda old: merge_patch(old, changes)
    if media == STRATEGIC_MERGE_PATCH:
        changes = json_object(exchange.body)
        return lambda old: strategic_merge(old, changes, kind_schema(target.kind))
    if media == JSON_PATCH:
        operations = json_value(exchange.body)
        return lambda old: _json_patched(old, operations)
    raise UnsupportedMediaType(f"the media type {media!r} is not supported; use {', '.join(PATCHES)}")


def _json_patched(old: JsonObject, operations: Any) -> JsonObject:
    if not isinstance(operations, list) or len(operations) > _MOST_OPERATIONS:
        raise BadRequest(f"a JSON patch is a list of at most {_MOST_OPERATIONS} operations")
    try:
        # In place, on a copy: the library would otherwise leave it to chance what the result shares with the old one.
        result = jsonpatch.JsonPatch(operations).apply(copy.deepcopy(old), in_place=True)
    except jsonpatch.JsonPatchTestFailed as error:
        raise Invalid(f"the server rejected our request due to an error in our request: {error}") from None
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise Invalid(f"the patch cannot be applied: {error}") from None
    except (TypeError, KeyError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise BadRequest(f"the patch is malformed: {error}") from None
    if not isinstance(result, dict):
        raise BadRequest("the patch makes no object")
    return result


def _apply(exchange: Exchange, store: Store, target: Target, writer: Writer) -> tuple[int, JsonObject, Writer]:
    if not exchange.query.text("fieldManager"):
        raise BadRequest("fieldManager is required for apply patch")
    applied = checked_object(yaml_object(exchange.body), target)
    if applied["metadata"].get("managedFields"):
        raise BadRequest("metadata.managedFields must be nil")
    if target.kind in WITH_STATUS and target.subresource != "status":
        applied.pop("status", None)
    manager = Manager(writer.manager_name, "Apply", target.api_version, target.subresource or "")
    schema, force = kind_schema(target.kind), exchange.query.flag("force")
    try:
        store.get(target.kind, *target.where)
    except NotFound:
        if target.subresource:
            raise
        created = writer.create(apply(None, applied, manager, schema, force), note=False)
        return 201, created, writer
    return 200, writer.update(lambda old: apply(old, applied, manager, schema, force), note=False), writer
