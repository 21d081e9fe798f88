"""Server-side apply: an object as its manager wants it, merged with what others have set.

The meaning is that of https://kubernetes.io/docs/reference/using-api/server-side-apply/: lists and mappings are merged
as their schema says, what the manager no longer names goes unless another manager has set it, too, and a field that
another manager has set otherwise is a conflict.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.apiserver.patches.fields import (
    Fields,
    Path,
    entry_step,
    fields_of,
    has_keys,
    is_set,
    text_of,
    value_at,
    value_step,
    with_prefixes,
)
from testbed.apiserver.patches.managers import Managed, Manager
from testbed.cluster.objects import JsonObject, without_nulls
from testbed.cluster.schemas import Schema
from testbed.cluster.status import Conflict


def apply(live: JsonObject | None, applied: JsonObject, manager: Manager, schema: Schema, force: bool) -> JsonObject:
    """The object that results, with its managers. ``live`` is None when there is none yet.

    Raises Conflict when another manager has set a field to another value, unless ``force``: then it is taken over.
    """
    applied = without_nulls(applied)
    managed = Managed(live)
    wanted = fields_of(applied, schema)
    if live is None:
        result = {**applied, "metadata": {**applied.get("metadata", {})}}
    else:
        conflicts = _conflicts(live, applied, wanted, managed, manager, schema)
        if conflicts and not force:
            raise _conflict(conflicts)
        for other, paths in conflicts.items():
            managed.set(other, managed.fields[other] - paths)
        others = (fields for other, fields in managed.fields.items() if other != manager)
        kept = with_prefixes(frozenset().union(wanted, *others))
        removed = managed.fields.get(manager, frozenset()) - wanted
        result = _merge(_prune(live, schema, (), removed, kept), applied, schema)
    managed.set(manager, wanted)
    managed.write_to(result)
    return result


def _conflicts(
    live: JsonObject, applied: JsonObject, wanted: Fields, managed: Managed, manager: Manager, schema: Schema
) -> dict[Manager, Fields]:
    found: dict[Manager, Fields] = {}
    for other, fields in managed.fields.items():
        if other == manager:
            continue
        paths = frozenset(
            path for path in wanted & fields if value_at(live, path, schema) != value_at(applied, path, schema)
        )
        if paths:
            found[other] = paths
    return found


def _conflict(conflicts: dict[Manager, Fields]) -> Conflict:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{other.name}" using {other.api_version}',
            "field": text_of(path),
        }
        for other, paths in conflicts.items()
        for path in sorted(paths)
    ]
    plural = "s" if len(causes) > 1 else ""
    told = "; ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    return Conflict(f"Apply failed with {len(causes)} conflict{plural}: {told}", {"causes": causes})


def _merge(live: Any, applied: Any, schema: Schema) -> Any:
    if isinstance(live, dict) and isinstance(applied, dict) and not schema.is_atomic:
        changes = {
            name: _merge(live[name], value, schema.field(name)) if name in live else value
            for name, value in applied.items()
        }
        return {**live, **changes}
    if has_keys(applied, schema) and has_keys(live, schema):
        wanted = {entry_step(entry, schema): entry for entry in applied}
        present = {entry_step(entry, schema): entry for entry in live}
        merged = [_merge(e, wanted[step], schema.items) if step in wanted else e for step, e in present.items()]
        return [*merged, *(entry for step, entry in wanted.items() if step not in present)]
    if is_set(applied, schema) and isinstance(live, list):
        return [*live, *(entry for entry in applied if entry not in live)]
    return applied


def _prune(value: Any, schema: Schema, path: Path, removed: Fields, kept: Iterable[Path]) -> Any:
    """The value without what is removed, but with all that is kept."""
    if isinstance(value, dict) and not schema.is_atomic:
        result = {}
        for name, inner in value.items():
            here = (*path, f"f:{name}")
            if here in removed and here not in kept:
                continue
            pruned = _prune(inner, schema.field(name), here, removed, kept)
            if pruned or not inner or here in kept:  # what has lost all that it had goes with it
                result[name] = pruned
        return result
    if has_keys(value, schema):
        steps = [((*path, entry_step(entry, schema)), entry) for entry in value]
        return [
            _prune(entry, schema.items, here, removed, kept)
            for here, entry in steps
            if here not in removed or here in kept
        ]
    if is_set(value, schema):
        places = [((*path, value_step(entry)), entry) for entry in value]
        return [entry for here, entry in places if here not in removed or here in kept]
    return value
