"""Sets of fields, as server-side apply keeps them in ``metadata.managedFields`` (``FieldsV1``).

A field is a path of steps in FieldsV1's own notation: ``f:spec``, ``k:{"name":"web"}`` for the entry of a list by its
keys, ``v:"x"`` for a plain value of a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import Schema

Path = tuple[str, ...]
Fields = frozenset[Path]

# What nobody owns: it says which object it is, or is the server's.
_IDENTITY = ("apiVersion", "kind")
_SERVERS_METADATA = (
    *("name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "generateName"),
    *("deletionTimestamp", "deletionGracePeriodSeconds", "managedFields"),
)

_MISSING = object()


def fields_of(wire: JsonObject, schema: Schema) -> Fields:
    """All fields that an object has."""
    found: set[Path] = set()
    for name, value in wire.items():
        if name in _IDENTITY:
            continue
        if name == "metadata" and isinstance(value, dict):
            value = {part: inner for part, inner in value.items() if part not in _SERVERS_METADATA}
            if not value:
                continue
        _collect(value, schema.field(name), (f"f:{name}",), found)
    return frozenset(found)


def entry_step(entry: Any, schema: Schema) -> str:
    """The step to an entry of a list that has keys."""
    keys = {
        key: entry[key] if key in entry else schema.default_of(key)
        for key in sorted(schema.list_keys)
        if key in entry or schema.default_of(key) is not None
    }
    return "k:" + json.dumps(keys, separators=(",", ":"))


def value_step(value: Any) -> str:
    """The step to a plain value of a list."""
    return "v:" + json.dumps(value, separators=(",", ":"), sort_keys=True)


def has_keys(value: Any, schema: Schema) -> bool:
    """Whether a value is a list whose entries are told apart by keys."""
    return isinstance(value, list) and bool(schema.list_keys) and all(isinstance(entry, dict) for entry in value)


def is_set(value: Any, schema: Schema) -> bool:
    """Whether a value is a list of plain values that are told apart by themselves."""
    return isinstance(value, list) and schema.is_set


def _collect(value: Any, schema: Schema, path: Path, found: set[Path]) -> None:
    if isinstance(value, dict) and value and not schema.is_atomic:
        for name, inner in value.items():
            _collect(inner, schema.field(name), (*path, f"f:{name}"), found)
    elif has_keys(value, schema) and value:
        for entry in value:
            here = (*path, entry_step(entry, schema))
            found.add(here)
            _collect(entry, schema.items, here, found)
    elif is_set(value, schema) and value:
        found.update((*path, value_step(entry)) for entry in value)
    else:
        found.add(path)


def value_at(wire: Any, path: Path, schema: Schema) -> Any:
    """What an object has at a path; an object of no other value when there is nothing. An entry of a list is itself."""
    value = wire
    for step in path:
        sign, text = step[:2], step[2:]
        if sign == "f:":
            if not isinstance(value, dict) or text not in value:
                return _MISSING
            value, schema = value[text], schema.field(text)
        elif not isinstance(value, list):
            return _MISSING
        elif sign == "k:":
            found = [entry for entry in value if isinstance(entry, dict) and entry_step(entry, schema) == step]
            if not found:
                return _MISSING
            value, schema = found[0], schema.items
        else:
            return step if any(value_step(entry) == step for entry in value) else _MISSING
    return _Entry if path and path[-1].startswith("k:") else value


class _Entry:
    """Stands for an entry of a list as such: that it is there, whatever it has."""


def text_of(path: Path) -> str:
    """A path as Kubernetes shows it in conflicts: ``.spec.template.spec.containers[name="web"].image``."""
    text = ""
    for step in path:
        sign, rest = step[:2], step[2:]
        if sign == "f:":
            text += f".{rest}"
        elif sign == "k:":
            text += "[" + ",".join(f"{name}={json.dumps(value)}" for name, value in json.loads(rest).items()) + "]"
        else:
            text += f"[={rest}]"
    return text


def to_wire(fields: Iterable[Path]) -> JsonObject:
    """FieldsV1: the paths as one tree, in which ``.`` says that a step with further steps is itself a field."""
    tree: JsonObject = {}
    for path in sorted(fields):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    return _without_dots(tree)


def _without_dots(tree: JsonObject) -> JsonObject:
    """Leaves need no dot."""
    return {
        step: {} if set(node) == {"."} else _without_dots(node) if step != "." else {} for step, node in tree.items()
    }


def from_wire(tree: Any) -> Fields:
    """The paths of FieldsV1; what is malformed is passed over."""
    found: set[Path] = set()
    waiting: list[tuple[Path, Any]] = [((), tree)]
    while waiting:
        path, node = waiting.pop()
        if not isinstance(node, dict) or not node:
            if path:
                found.add(path)
            continue
        for step, inner in node.items():
            if step == ".":
                found.add(path)
            elif step[:2] in ("f:", "k:", "v:"):
                waiting.append(((*path, step), inner))
    return frozenset(found)


def with_prefixes(fields: Iterable[Path]) -> frozenset[Path]:
    """The paths and everything above them."""
    return frozenset(path[: length + 1] for path in fields for length in range(len(path)))
