"""Kubernetes' own JSON schemas, as kubernetes-validate brings them: what fields an object may have, and what they are.

Beside types the schemas say how lists are merged (``x-kubernetes-patch-merge-key``, ``x-kubernetes-list-type``), so
patches, server-side apply, validation and the API's OpenAPI document all follow from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, cached_property
from typing import Any, NamedTuple

from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject

FieldPath = tuple[str | int, ...]

_REFERENCE = "#/$defs/"


class SchemaProblem(NamedTuple):
    """One way in which an object does not meet its schema. ``error`` is jsonschema's own."""

    path: FieldPath
    is_unknown: bool
    """Whether the field is not known at all."""
    message: str
    error: Any

    @property
    def is_missing(self) -> bool:
        """Whether the field is required, and not there."""
        return self.error is not None and self.error.validator == "required"


def schema_problems(wire: JsonObject, schema_name: str) -> Iterator[SchemaProblem]:
    """Every way in which an object does not meet the schema, for example ``pod-v1``."""
    for path in _empty_entries((), wire):
        yield SchemaProblem(path, False, "an entry without a value", None)
    for error in _validator(schema_name).iter_errors(wire):
        path = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            for name in sorted(set(error.instance) - set(error.schema.get("properties", {}))):
                yield SchemaProblem((*path, name), True, "unknown field", error)
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield SchemaProblem((*path, name), False, "is required", error)
        elif error.validator in ("type", "oneOf"):
            yield SchemaProblem(path, False, f"must be {types_text(error)}", error)
        elif error.validator == "enum":
            yield SchemaProblem(path, False, "is not one of the values", error)
        else:
            yield SchemaProblem(path, False, "is not what Kubernetes' schema asks", error)


def schema_name(kind: Kind) -> str:
    """The name of a kind's schema, for example ``deployment-apps-v1``."""
    group = kind.group.split(".")[0]
    return "-".join(part for part in (kind.name.lower(), group, kind.version) if part)


def field_text(path: FieldPath) -> str:
    """A path as messages show it: ``spec.containers[0].image``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


class Schema:
    """What one field is: its definition, and how it is merged."""

    def __init__(self, node: JsonObject) -> None:
        self._node = node

    @cached_property
    def _resolved(self) -> JsonObject:
        reference = self._node.get("$ref")
        if reference is None:
            return self._node
        resolved: JsonObject = definitions()[reference.removeprefix(_REFERENCE)]
        return resolved

    @cached_property
    def _fields(self) -> dict[str, Schema]:
        return {name: Schema(node) for name, node in self._resolved.get("properties", {}).items()}

    @cached_property
    def _others(self) -> Schema | None:
        others = self._resolved.get("additionalProperties")
        return Schema(others) if isinstance(others, dict) else None

    def field(self, name: str) -> Schema:
        """The field of a mapping; :data:`UNKNOWN` when the schema has no such field."""
        return self._fields.get(name) or self._others or UNKNOWN

    @cached_property
    def items(self) -> Schema:
        """An entry of a list."""
        items = self._resolved.get("items")
        return Schema(items) if isinstance(items, dict) else UNKNOWN

    @cached_property
    def patch_strategies(self) -> frozenset[str]:
        """Of ``merge``, ``replace`` and ``retainKeys``: how a strategic merge patch changes the field."""
        text = self._said("x-kubernetes-patch-strategy") or ""
        return frozenset(part for part in text.split(",") if part)

    @cached_property
    def merge_key(self) -> str | None:
        """The field by which a strategic merge patch finds the entries of a list; None for plain values."""
        key: str | None = self._said("x-kubernetes-patch-merge-key")
        return key

    @cached_property
    def list_keys(self) -> tuple[str, ...]:
        """The fields by which server-side apply tells the entries of a list apart; empty when they have no identity."""
        is_map = self._said("x-kubernetes-list-type") == "map"
        return tuple(self._said("x-kubernetes-list-map-keys") or ()) if is_map else ()

    @cached_property
    def is_set(self) -> bool:
        """Whether a list's plain values are told apart by what they are (server-side apply)."""
        return bool(self._said("x-kubernetes-list-type") == "set")

    @cached_property
    def is_atomic(self) -> bool:
        """Whether server-side apply takes a mapping as a whole."""
        return bool(self._said("x-kubernetes-map-type") == "atomic")

    def default_of(self, name: str) -> Any:
        """What a field by which entries are told apart is when it is not given: a port's protocol is TCP."""
        return "TCP" if name == "protocol" else None

    def _said(self, name: str) -> Any:
        return self._node.get(name, self._resolved.get(name))


UNKNOWN = Schema({})
"""What nothing is known about: mappings are merged, lists replaced."""


def kind_schema(kind: Kind) -> Schema:
    """The schema of a kind's objects."""
    return _kind_schema(kind.group, kind.version, kind.name)


@cache
def _kind_schema(group: str, version: str, name: str) -> Schema:
    return Schema({"$ref": _REFERENCE + definition_names()[group, version, name]})


@cache
def definitions() -> dict[str, JsonObject]:
    """All definitions by their full name, for example ``io.k8s.api.core.v1.Pod``."""
    # Imported here because what needs no schema should not wait for it.
    from kubernetes_validate.utils import schema_contents

    contents: dict[str, JsonObject] = schema_contents(f"{_folder()}/_definitions.json", _version())["$defs"]
    return contents


@cache
def definition_names() -> dict[tuple[str, str, str], str]:
    """The full name of a definition by group, version and kind."""
    return {
        (entry["group"], entry["version"], entry["kind"]): name
        for name, node in definitions().items()
        for entry in node.get("x-kubernetes-group-version-kind", ())
    }


@cache
def _validator(schema_name: str) -> Any:
    """A validator with the newest schema that kubernetes-validate brings.

    The package's own ``validate`` stops at the first error, and this reports all.
    """
    # Imported here because a topology without manifests needs none of it, and it takes a tenth of a second.
    import jsonschema
    from kubernetes_validate.utils import schema_contents
    from referencing import Registry, Resource

    schema = schema_contents(f"{_folder()}/{schema_name}.json", _version())
    registry: Any = Resource.from_contents(schema) @ (_definitions_resource() @ Registry())
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions_resource() -> Any:
    """What all schemas refer to: large, so it is read once."""
    from kubernetes_validate.utils import schema_contents
    from referencing import Resource

    return Resource.from_contents(schema_contents(f"{_folder()}/_definitions.json", _version()))


@cache
def _version() -> str:
    from kubernetes_validate.utils import latest_version

    return str(latest_version())


def _folder() -> str:
    return f"kubernetes-json-schema/v{_version()}-local-strict"


_TYPE_WORDS = {
    "string": "text (a number or yes/no in quotes)",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (field: value)",
}


def types_text(error: Any) -> str:
    """The types that an error of ``type``, or of ``oneOf`` several types, asks for."""
    wanted: list[str] = []
    for choice in [error.schema] if error.validator == "type" else error.validator_value:
        types = choice.get("type", [])
        wanted += [types] if isinstance(types, str) else types
    names = [name for name in wanted if name != "null"]
    if sorted(names) == ["integer", "string"]:
        return "a whole number or text"
    return " or ".join(_TYPE_WORDS.get(name, name) for name in names)


def _empty_entries(path: FieldPath, value: Any) -> Iterator[FieldPath]:
    """Entries of lists without a value. The schemas let them pass, Kubernetes does not."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                yield (*path, index)
            yield from _empty_entries((*path, index), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _empty_entries((*path, name), item)
