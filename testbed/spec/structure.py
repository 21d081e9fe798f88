"""From a document to models: pydantic's complaints in our words, at their line, and the parts that are sound anyway."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from testbed.errors import Problem
from testbed.spec.field_types import NAME_FORM
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath

AnyModel = TypeVar("AnyModel", bound=BaseModel)


def structure_problems(document: Document, model: type[BaseModel]) -> list[Problem]:
    """Every way in which the document's value does not have the model's form."""
    try:
        model.model_validate(document.value, by_alias=True, by_name=False)
    except ValidationError as error:
        return [
            _problem(document, model, dict(details))
            for details in error.errors(include_url=False)
            # A list is also called too short when its entries are unsound.
            if not (details["type"] == "too_short" and details["input"])
        ]
    return []


def sound(value: Any, model: type[AnyModel]) -> AnyModel | None:
    """The value as a model, or None where it does not have the form (its problems are reported elsewhere)."""
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError:
        return None


def sound_fields(value: Any, model: type[AnyModel]) -> AnyModel | None:
    """The value as a model without its unsound fields, so that the sound ones can be checked further.

    None where nothing is left to check: a required field is unsound, or the value is no mapping.
    """
    try:
        return model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        for details in error.errors(include_url=False, include_context=False):
            value = _without(value, details["loc"])
    return sound(value, model)


def _without(value: Any, location: tuple[int | str, ...]) -> Any:
    """The value without the field at ``location``, or without the nearest field above that stands in a mapping."""
    if not location or not isinstance(value, dict) or location[0] not in value:
        return value
    inner = value[location[0]]
    rest = {name: item for name, item in value.items() if name != location[0]}
    if len(location) > 1 and isinstance(inner, dict) and location[1] in inner:
        return {**rest, location[0]: _without(inner, location[1:])}
    return rest


def _problem(document: Document, root: type[BaseModel], details: Mapping[str, Any]) -> Problem:
    kind: str = details["type"]
    location: tuple[str | int, ...] = details["loc"]
    path: FieldPath = location[:-1] if location and location[-1] == "[key]" else location
    context: Mapping[str, Any] = details.get("ctx", {})
    got = "nothing" if details["input"] is None else details["input"]
    if kind == "missing":
        return document.problem(path, "is required", allowed=_allowed(root, path))
    if kind == "extra_forbidden":
        names = tuple(_schema_at(root, path[:-1]).get("properties", {}))
        return document.problem(path, f"unknown field{suggestion(str(path[-1]), names)}", allowed=names_text(names))
    if kind == "literal_error":
        choices = _choices(_schema_at(root, path))
        hint = suggestion(got, choices) if isinstance(got, str) else ""
        return document.problem(path, f"is not one of the values{hint}", got, names_text(choices))
    if kind == "value_error":
        return document.problem(path, "does not have the form that is asked", got, str(context["error"]))
    if kind == "string_pattern_mismatch":
        return document.problem(path, "is not a name", got, NAME_FORM)
    if kind == "too_short":
        return document.problem(path, "is empty", allowed=_allowed(root, path))
    if kind in _LIMITS:
        return document.problem(path, _LIMITS[kind], got, _allowed(root, path))
    message = next((text for prefix, text in _TYPES.items() if kind.startswith(prefix)), details["msg"])
    return document.problem(path, message, got, _allowed(root, path))


_LIMITS = {
    "greater_than": "is too small",
    "greater_than_equal": "is too small",
    "less_than": "is too large",
    "less_than_equal": "is too large",
}
_TYPES = {
    "int": "must be a whole number",
    "float": "must be a number",
    "finite": "must be a finite number",
    "bool": "must be true or false",
    "string": "must be text (a number or yes/no in quotes)",
    "tuple": "must be a list",
    "dict": "must be a mapping (field: value)",
    "model": "must be a mapping (field: value)",
}


@cache
def _schema(root: type[BaseModel]) -> Mapping[str, Any]:
    return root.model_json_schema(by_alias=True)


def _schema_at(root: type[BaseModel], path: FieldPath) -> Mapping[str, Any]:
    """The JSON Schema of the field at ``path``; empty where there is no such field."""
    schema = _resolved(root, _schema(root))
    for step in path:
        if isinstance(step, int):
            below = schema.get("items", {})
        else:
            below = schema.get("properties", {}).get(step) or schema.get("additionalProperties")
            below = below or next(iter(schema.get("patternProperties", {}).values()), {})
        schema = _resolved(root, below)
    return schema


def _resolved(root: type[BaseModel], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without the choice of null, and with the definition that is referred to; the field's own words win."""
    own = {name: value for name, value in schema.items() if name in ("description", "default")}
    for choice in schema.get("anyOf", ()):
        if choice.get("type") != "null":
            schema = choice
            break
    if "$ref" in schema:
        schema = _schema(root)["$defs"][schema["$ref"].rpartition("/")[2]]
    return {**schema, **own}


def _choices(schema: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(map(str, schema.get("enum", [schema["const"]] if "const" in schema else [])))


def _allowed(root: type[BaseModel], path: FieldPath) -> str:
    """The range of a number, the choices or the type, and what the field means."""
    schema = _schema_at(root, path)
    limits = names_text(_choices(schema)) or _JSON_TYPES.get(schema.get("type", ""), "")
    for words, name in (
        ("at least", "minimum"),
        ("more than", "exclusiveMinimum"),
        ("at most", "maximum"),
    ):
        if name in schema:
            limits += f", {words} {schema[name]}"
    description = str(schema.get("description", ""))
    return f"{limits}: {description}" if limits and description else limits or description


_JSON_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}
