"""How the API server words what is wrong with a field (``k8s.io/apimachinery/pkg/util/validation/field``)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Problem = tuple[str, str]  # field, what is wrong with it


def required(detail: str = "") -> str:
    return "Required value" + (f": {detail}" if detail else "")


def invalid_value(value: Any, reason: str) -> str:
    return f"Invalid value: {_shown(value)}: {reason}"


def unsupported(value: Any, choices: Iterable[str]) -> str:
    return f"Unsupported value: {_shown(value)}: supported values: {', '.join(map(_shown, sorted(choices)))}"


def duplicate(value: Any) -> str:
    return f"Duplicate value: {_shown(value)}"


def not_found(value: Any) -> str:
    return f"Not found: {_shown(value)}"


def forbidden(reason: str) -> str:
    return f"Forbidden: {reason}"


def repeated(names: Iterable[str], at: str, key: str = "name") -> Iterable[Problem]:
    """The entries of the list ``at`` whose ``key`` an earlier entry has already."""
    seen = set[str]()
    for index, name in enumerate(names):
        if name in seen:
            yield f"{at}[{index}].{key}", duplicate(name)
        seen.add(name)


def in_range(value: Any, least: int, most: int) -> str | None:
    """Why a number is not one of a range; None when it is."""
    return None if least <= value <= most else invalid_value(value, f"must be between {least} and {most}, inclusive")


def port_number(value: Any) -> str | None:
    """Why a number is not that of a port; None when it is."""
    return in_range(value, 1, 65535)


def not_negative(wire: Mapping[str, Any], names: Iterable[str], at: str) -> Iterable[Problem]:
    """The numbers among the fields ``names`` of the mapping ``at`` that are below zero."""
    for name in names:
        if (number := wire.get(name)) is not None and number < 0:
            yield f"{at}.{name}", invalid_value(number, "must be greater than or equal to 0")


def _shown(value: Any) -> str:
    """A value as Go's ``%#v`` shows it."""
    if isinstance(value, Mapping) and all(isinstance(text, str) for text in value.values()):
        pairs = ", ".join(f"{_shown(name)}:{_shown(text)}" for name, text in sorted(value.items()))
        return f"map[string]string{{{pairs}}}"
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return f"[]string{{{', '.join(map(_shown, value))}}}"
    return json.dumps(value, ensure_ascii=False)
