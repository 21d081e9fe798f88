"""Fields that the testbed acts on. Any other that the schemas allow is accepted, with a warning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from testbed.cluster.objects import JsonObject
from testbed.spec.source import FieldPath

# Name of a field to the fields in it that count (for a list: in each of its entries); None: all of them, or a scalar.
Fields = Mapping[str, Any]

METADATA: Fields = dict.fromkeys(("name", "namespace", "labels", "annotations"))


def object_fields(**own: Fields | None) -> Fields:
    """The fields of an object: those every object has, and its ``own``."""
    return {"apiVersion": None, "kind": None, "metadata": METADATA, "status": None, **own}


def fields_without_effect(wire: JsonObject, known: Fields) -> Iterator[FieldPath]:
    """Where the fields of an object are that are fine in Kubernetes and do nothing here."""
    return _unknown(wire, known, ())


def _unknown(value: Any, known: Fields, path: FieldPath) -> Iterator[FieldPath]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield from _unknown(item, known, (*path, index))
        return
    if not isinstance(value, dict):
        return  # of another form than the schema's
    yield from ((*path, name) for name in value if name not in known)
    for name, item in value.items():
        if known.get(name) is not None:
            yield from _unknown(item, known[name], (*path, name))
