"""Label selectors as they stand in objects (``matchLabels`` and ``matchExpressions``, meta/v1 LabelSelector)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.objects import JsonObject

OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def selects(selector: JsonObject, labels: Mapping[str, str]) -> bool:
    """Whether a selector picks an object with these labels; an empty one picks everything."""
    for name, value in (selector.get("matchLabels") or {}).items():
        if labels.get(name) != value:
            return False
    expressions = selector.get("matchExpressions")
    return not expressions or all(meets(expression, labels) for expression in expressions)


def meets(expression: JsonObject, labels: Mapping[str, str]) -> bool:
    """Whether labels meet one ``{key, operator, values}``; ``Gt`` and ``Lt`` are those of node selectors.

    Raises KeyError for an expression without key or with an unknown operator.
    """
    key, values = expression["key"], list(expression.get("values") or ())
    there = labels.get(key)
    match expression["operator"]:
        case "In":
            return there in values
        case "NotIn":
            return there not in values
        case "Exists":
            return there is not None
        case "DoesNotExist":
            return there is None
        case "Gt" | "Lt" as operator:
            try:
                number, limit = int(there or ""), int(values[0])
            except (IndexError, ValueError):
                return False
            return number > limit if operator == "Gt" else number < limit
        case other:
            raise KeyError(other)


def expression_problems(expressions: object, field: str, operators: tuple[str, ...]) -> Iterator[FieldProblem]:
    """What is wrong with a list of ``{key, operator, values}`` that stands in ``field``."""
    if not isinstance(expressions, list):
        yield FieldProblem(field, "must be a list")
        return
    for index, expression in enumerate(expressions):
        here = f"{field}[{index}]"
        if not isinstance(expression, dict) or not expression.get("key"):
            yield FieldProblem(f"{here}.key", "is required")
            continue
        operator, values = expression.get("operator"), expression.get("values") or []
        if not isinstance(values, list):
            yield FieldProblem(f"{here}.values", "must be a list")
        elif operator not in operators:
            yield FieldProblem(f"{here}.operator", "is not an operator", str(operator), ", ".join(operators))
        elif operator in ("Exists", "DoesNotExist") and values:
            yield FieldProblem(f"{here}.values", f"must be empty with the operator {operator}")
        elif operator in ("In", "NotIn") and not values:
            yield FieldProblem(f"{here}.values", f"must not be empty with the operator {operator}")
        elif operator in ("Gt", "Lt") and len(values) != 1:
            yield FieldProblem(f"{here}.values", f"must be one number with the operator {operator}")


def selector_problems(selector: object, labels: Mapping[str, str], field: str) -> Iterator[FieldProblem]:
    """What is wrong with the selector of a workload whose template carries ``labels``."""
    if not isinstance(selector, dict):
        yield FieldProblem(field, "is required")
        return
    wanted, expressions = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not isinstance(wanted, dict) or not (wanted or expressions):
        yield FieldProblem(f"{field}.matchLabels", "is required")
        return
    wrong = list(expression_problems(expressions, f"{field}.matchExpressions", OPERATORS))
    yield from wrong
    reason = "is not a label of spec.template, so the pods would not be found"
    for name, value in wanted.items():
        if labels.get(name) != value:
            yield FieldProblem(f"{field}.matchLabels", reason, f"{name}={value}")
    if not wrong and not all(meets(expression, labels) for expression in expressions):
        yield FieldProblem(f"{field}.matchExpressions", "does not select the labels of spec.template")
