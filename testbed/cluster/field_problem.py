"""What is wrong with one field of an object."""

from __future__ import annotations

from typing import NamedTuple


class FieldProblem(NamedTuple):
    """One field that is wrong: where, why, what stands there and what may."""

    field: str
    reason: str
    value: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        got = f" (got {self.value})" if self.value else ""
        return self.reason + got + (f"; allowed: {self.allowed}" if self.allowed else "")
