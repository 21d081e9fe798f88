"""Kubernetes' own JSON schemas applied to manifests, and their complaints in our words."""

from __future__ import annotations

from typing import Any

from testbed.cluster import schemas
from testbed.errors import Problem
from testbed.spec.manifests.manifest import Manifest
from testbed.spec.nearest import names_text, suggestion


def schema_problems(manifest: Manifest, schema_name: str) -> list[Problem]:
    """Every way in which the object does not meet the schema, for example ``pod-v1``; unknown fields are errors."""
    return [_problem(manifest, found) for found in schemas.schema_problems(manifest.object, schema_name)]


def _problem(manifest: Manifest, found: schemas.SchemaProblem) -> Problem:
    path, error = found.path, found.error
    if found.is_unknown:
        known = error.schema.get("properties", {})
        return manifest.problem(path, f"unknown field{suggestion(str(path[-1]), known)}")
    if error is None or error.validator == "required":
        return manifest.problem(path, found.message)
    if error.validator == "enum":
        allowed = names_text([str(value) for value in error.validator_value if value is not None])
        return manifest.problem(path, found.message, _shown(error.instance), allowed)
    return manifest.problem(path, found.message, _shown(error.instance))


def _shown(value: Any) -> Any:
    return "nothing" if value is None else value
