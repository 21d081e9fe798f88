"""What a client sends becomes a whole object of its kind: with defaults, and checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.apiserver.checks import change_problems, object_problems
from testbed.apiserver.checks.decoding import type_problem, value_problems
from testbed.apiserver.checks.refusal import refusal
from testbed.apiserver.checks.words import Problem, required
from testbed.cluster.defaulting import set_defaults
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject, without_nulls
from testbed.cluster.schemas import FieldPath, SchemaProblem, field_text, schema_name, schema_problems
from testbed.cluster.status import BadRequest

# What Kubernetes adds where a field is missing.
_WHAT_IS_REQUIRED = {"pathType": "pathType must be specified"}


def completed(kind: Kind, wire: JsonObject, old: JsonObject | None, validation: str, warnings: list[str]) -> JsonObject:
    """An object with Kubernetes' defaults, in the place of ``old`` if there is one.

    ``validation`` says what becomes of unknown fields: ``Strict`` refuses the object, ``Warn`` drops them and says so
    in ``warnings``, ``Ignore`` drops them. Raises BadRequest when it is no such object, Invalid with all that is wrong.
    """
    wire = without_nulls(wire)
    set_defaults(kind, wire)
    # What an object had before need not be mended by whoever changes something else.
    before = [] if old is None else list(schema_problems(old, schema_name(kind)))
    known = {problem.path: problem.message for problem in before}
    now = list(schema_problems(wire, schema_name(kind)))
    found = [problem for problem in now if known.get(problem.path) != problem.message]
    if wrong := [type_problem(kind, p.path, _value_at(wire, p.path)) for p in found if _is_of_a_wrong_type(p)]:
        raise _unreadable(kind, wrong)
    causes = [(field, required(_WHAT_IS_REQUIRED.get(field.rpartition(".")[2], ""))) for field in _missing(found)]
    if not any(map(_is_of_a_wrong_type, now)):  # else only what was there before is, and cannot be looked at further
        comparable = None if any(map(_is_of_a_wrong_type, before)) else old
        causes += _problems(kind, wire, comparable, missing=_missing(now))
    if causes:
        raise refusal(kind, str(wire["metadata"].get("name") or ""), causes)
    _drop_unknown(kind, wire, [problem.path for problem in found if problem.is_unknown], validation, warnings)
    return wire


def _problems(kind: Kind, wire: JsonObject, old: JsonObject | None, missing: list[str]) -> list[Problem]:
    """What is wrong with an object whose fields are of the right types. Raises BadRequest."""
    told = set() if old is None else set(value_problems(kind, old))
    if wrong := [text for text in value_problems(kind, wire) if text not in told]:
        raise _unreadable(kind, wrong)
    known = set() if old is None else set(object_problems(kind, old))
    problems = [each for each in object_problems(kind, wire) if each not in known and each[0] not in missing]
    return problems if old is None else [*problems, *change_problems(kind, wire, old)]


def _is_of_a_wrong_type(problem: SchemaProblem) -> bool:
    return not (problem.is_missing or problem.is_unknown)


def _missing(problems: Iterable[SchemaProblem]) -> list[str]:
    return [field_text(problem.path) for problem in problems if problem.is_missing]


def _unreadable(kind: Kind, wrong: Iterable[str]) -> BadRequest:
    reasons = ", ".join(wrong)
    return BadRequest(f'{kind.name} in version "{kind.version}" cannot be handled as a {kind.name}: {reasons}')


def _drop_unknown(kind: Kind, wire: JsonObject, paths: list[FieldPath], validation: str, warnings: list[str]) -> None:
    texts = [f'unknown field "{field_text(path)}"' for path in paths]
    if texts and validation == "Strict":
        raise _unreadable(kind, [f"strict decoding error: {', '.join(texts)}"])
    if validation == "Warn":
        warnings += texts
    for path in paths:
        del _value_at(wire, path[:-1])[path[-1]]


def _value_at(wire: JsonObject, path: FieldPath) -> Any:
    value: Any = wire
    for part in path:
        value = value[part]
    return value
