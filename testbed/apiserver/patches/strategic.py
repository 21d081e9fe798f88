"""Strategic merge patches, as ``kubectl apply``, ``label`` or ``set image`` send them.

What differs from a JSON merge patch: lists whose schema names a merge key are merged entry by entry, and directives in
the patch delete or replace. See "strategic merge patch" in Kubernetes' community documents
(contributors/devel/sig-api-machinery/strategic-merge-patch.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import Schema
from testbed.cluster.status import BadRequest

_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_ORDER = "$setElementOrder/"
_DELETE_VALUES = "$deleteFromPrimitiveList/"


def strategic_merge(target: JsonObject, patch: JsonObject, schema: Schema) -> JsonObject:
    """The object that the patch makes of ``target``; neither is changed. Raises BadRequest for a malformed patch."""
    if _DIRECTIVE in patch:
        return _directed(patch)
    result = dict(target)
    if _RETAIN in patch:
        kept = _list(patch[_RETAIN], _RETAIN)
        result = {name: value for name, value in result.items() if name in kept}
    for name, value in patch.items():
        if name == _RETAIN or name.startswith(_ORDER):
            continue
        if name.startswith(_DELETE_VALUES):
            _delete_values(result, name.removeprefix(_DELETE_VALUES), _list(value, name))
            continue
        if value is None:
            result.pop(name, None)
            continue
        result[name] = _merged(result.get(name), value, schema.field(name), patch.get(_ORDER + name))
    for name in patch:
        field = name.removeprefix(_ORDER)
        if field != name and field not in patch and isinstance(result.get(field), list):
            result[field] = _ordered(result[field], [], _list(patch[name], name), schema.field(field))
    return result


def _merged(value: Any, change: Any, schema: Schema, order: Any) -> Any:
    if isinstance(change, dict):
        replaces = "replace" in schema.patch_strategies or not isinstance(value, dict)
        return strategic_merge({} if replaces else value, change, schema)
    if isinstance(change, list):
        if "merge" not in schema.patch_strategies:
            return change
        present = value if isinstance(value, list) else []
        wanted = None if order is None else _list(order, _ORDER)
        if schema.merge_key is None:
            merged = [*present, *(entry for entry in change if entry not in present)]
            return merged if wanted is None else _ordered(merged, present, wanted, schema)
        return _merged_entries(present, change, schema, wanted)
    return change


def _merged_entries(present: list[Any], changes: list[Any], schema: Schema, order: list[Any] | None) -> list[Any]:
    key = schema.merge_key
    assert key is not None
    result = list(present)
    if {_DIRECTIVE: "replace"} in changes:
        result, changes = [], [change for change in changes if change != {_DIRECTIVE: "replace"}]
    for change in changes:
        if not isinstance(change, dict) or key not in change:
            raise BadRequest(f"an entry of the patch does not contain its merge key {key!r}")
        same = [index for index, entry in enumerate(result) if _key_of(entry, key) == change[key]]
        if change.get(_DIRECTIVE) == "delete":
            result = [entry for index, entry in enumerate(result) if index not in same]
        elif change.get(_DIRECTIVE) == "replace" and same:
            result[same[0]] = _directed(change)
        elif same:
            result[same[0]] = strategic_merge(result[same[0]], change, schema.items)
        else:
            result.append(strategic_merge({}, {k: v for k, v in change.items() if k != _DIRECTIVE}, schema.items))
    return result if order is None else _ordered(result, present, order, schema)


def _ordered(entries: list[Any], present: Sequence[Any], order: list[Any], schema: Schema) -> list[Any]:
    """The entries that ``order`` names in that order; the others keep their place among them as it was before."""
    key = schema.merge_key

    def identity(entry: Any) -> Any:
        return entry if key is None else _key_of(entry, key)

    wanted = [identity(entry) for entry in order]
    before = [identity(entry) for entry in (present or entries)]

    def place(entry: Any) -> int:
        """Where the entry was; one that was not comes last."""
        return before.index(identity(entry)) if identity(entry) in before else len(before)

    named = sorted((e for e in entries if identity(e) in wanted), key=lambda e: wanted.index(identity(e)))
    others = [entry for entry in entries if identity(entry) not in wanted]
    result = []
    for entry in named:
        while others and place(others[0]) < place(entry) < len(before):
            result.append(others.pop(0))
        result.append(entry)
    return [*result, *others]


def _delete_values(result: JsonObject, field: str, values: list[Any]) -> None:
    if isinstance(result.get(field), list):
        result[field] = [entry for entry in result[field] if entry not in values]


def _directed(patch: JsonObject) -> JsonObject:
    directive = patch[_DIRECTIVE]
    if directive == "delete":
        return {}
    if directive in ("replace", "merge"):
        return {name: value for name, value in patch.items() if name != _DIRECTIVE}
    raise BadRequest(f"the patch has an unknown directive {_DIRECTIVE}: {directive!r}")


def _key_of(entry: Any, key: str) -> Any:
    return entry.get(key) if isinstance(entry, dict) else None


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise BadRequest(f"{name} in the patch is no list")
    return value
