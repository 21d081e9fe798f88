"""Kubernetes' own JSON schemas, as kubernetes-validate brings them, and their complaints in our words."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from testbed.errors import Problem
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import FieldPath


def schema_problems(manifest: Manifest, schema_name: str) -> list[Problem]:
    """Every way in which the object does not meet the schema, for example ``pod-v1``; unknown fields are errors."""
    problems = list(_empty_entries(manifest, (), manifest.object))
    for error in _validator(schema_name).iter_errors(manifest.object):
        path: FieldPath = tuple(error.absolute_path)
        if error.validator == "additionalProperties":
            known = error.schema.get("properties", {})
            for name in sorted(set(error.instance) - set(known)):
                message = f"unknown field{suggestion(name, known)}"
                problems.append(manifest.problem((*path, name), message))
        elif error.validator == "required":
            missing = [name for name in error.validator_value if name not in error.instance]
            problems += [manifest.problem((*path, name), "is required") for name in missing]
        elif error.validator in ("type", "oneOf"):
            problems.append(manifest.problem(path, f"must be {_types_text(error)}", _shown(error.instance)))
        elif error.validator == "enum":
            allowed = names_text([str(value) for value in error.validator_value if value is not None])
            problems.append(manifest.problem(path, "is not one of the values", _shown(error.instance), allowed))
        else:
            problems.append(manifest.problem(path, "is not what Kubernetes' schema asks", _shown(error.instance)))
    return problems


@cache
def _validator(schema_name: str) -> Any:
    """A validator with the newest schema that kubernetes-validate brings.

    The package's own ``validate`` stops at the first error, and this reports all.
    """
    # Imported here because a topology without manifests needs none of it, and it takes a tenth of a second.
    import jsonschema
    from kubernetes_validate.utils import schema_contents
    from referencing import Resource

    schema = schema_contents(f"{_folder()}/{schema_name}.json", _version())
    registry: Any = Resource.from_contents(schema) @ _definitions()
    return jsonschema.Draft202012Validator(schema, registry=registry)


@cache
def _definitions() -> Any:
    """What all schemas refer to: large, so it is read once."""
    from kubernetes_validate.utils import schema_contents
    from referencing import Registry, Resource

    return Resource.from_contents(schema_contents(f"{_folder()}/_definitions.json", _version())) @ Registry()


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


def _types_text(error: Any) -> str:
    """The types that an error of ``type``, or of ``oneOf`` several types, asks for."""
    wanted: list[str] = []
    for choice in [error.schema] if error.validator == "type" else error.validator_value:
        types = choice.get("type", [])
        wanted += [types] if isinstance(types, str) else types
    names = [name for name in wanted if name != "null"]
    if sorted(names) == ["integer", "string"]:
        return "a whole number or text"
    return " or ".join(_TYPE_WORDS.get(name, name) for name in names)


def _shown(value: Any) -> Any:
    return "nothing" if value is None else value


def _empty_entries(manifest: Manifest, path: FieldPath, value: Any) -> Iterator[Problem]:
    """Entries of lists without a value. The schemas let them pass, the API server does not."""
    if isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                yield manifest.problem((*path, index), "an entry without a value")
            yield from _empty_entries(manifest, (*path, index), item)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _empty_entries(manifest, (*path, name), item)
