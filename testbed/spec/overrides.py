"""``--set key=value``: one field of the experiment, changed from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from testbed.errors import Problem
from testbed.spec.source import Document, FieldPath, field_text, parse_value, printable, value_text

_FORM = "FIELD=VALUE with a field such as rounds, topology.parameters.leaves or probes[0].duration_s"
_STEP = re.compile(r"(?:^|\.)([A-Za-z0-9_-]+)|\[([0-9]{1,6})\]|\[\"([^\"]+)\"\]")


def parse_field(text: str) -> FieldPath:
    """The path of a dotted field: ``probes[0].kind``. Raises ValueError."""
    path: list[str | int] = []
    position = 0
    while position < len(text):
        step = _STEP.match(text, position)
        if step is None:
            raise ValueError(_FORM)
        name, index, quoted = step.groups()
        path.append(int(index) if index is not None else name or quoted)
        position = step.end()
    if not path or isinstance(path[0], int):
        raise ValueError(_FORM)
    return tuple(path)


def apply_overrides(document: Document, overrides: Iterable[str]) -> tuple[Document, list[Problem]]:
    """The document with every override that can be made, in the order given, and a problem for each that cannot."""
    problems: list[Problem] = []
    for override in overrides:
        option = printable(f"--set {override}")
        name, separator, text = override.partition("=")
        try:
            if not separator:
                raise ValueError(_FORM)
            path = parse_field(name)
        except ValueError as error:
            problems.append(Problem(option, 0, "", "cannot be read", allowed=str(error)))
            continue
        problem = _obstacle(document, path, option)
        if problem is None:
            try:
                document = document.with_value(path, parse_value(text), option)
            except ValueError as error:
                problem = Problem(option, 0, name, f"the value {error}", value_text(text))
        if problem:
            problems.append(problem)
    return document, problems


def _obstacle(document: Document, path: FieldPath, option: str) -> Problem | None:
    """Why there is no place for a value at ``path``. A field of a mapping need not be there yet; a list's item must."""
    value = document.value
    for length, step in enumerate(path):
        here = field_text(path[:length])
        if isinstance(step, int):
            if not isinstance(value, list):
                got = "nothing" if value is None else value_text(value)
                return Problem(option, 0, here, "is not a list in this file", got)
            if step >= len(value):
                allowed = f"[0] to [{len(value) - 1}]" if value else ""
                return Problem(option, 0, here, f"has {len(value)} entries, so there is no [{step}]", allowed=allowed)
            value = value[step]
        elif value is None or isinstance(value, dict):
            value = (value or {}).get(step)
        else:
            hint = "; name the entry, for example [0]" if isinstance(value, list) else ""
            return Problem(option, 0, here, f"has no fields{hint}", value_text(value))
    return None
