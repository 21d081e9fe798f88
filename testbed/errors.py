"""The errors a user can meet, and the exit status each one ends the command with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class TestbedError(Exception):
    """Base of every error that is meant for the user: its text is printed without a traceback."""

    __test__ = False  # keeps pytest from collecting it
    exit_status = 1


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file.

    ``line`` counts from 1 (0: the file as a whole); ``field`` is the path of the field as a person would write it,
    for example ``probes[0].kind``; ``value`` is the offending value as text; ``allowed`` says what would be accepted.
    """

    file: str
    line: int
    field: str
    message: str
    value: str = ""
    allowed: str = ""

    def __str__(self) -> str:
        where = self.file + (f":{self.line}" if self.line else "")
        text = f"{where}: {self.field + ': ' if self.field else ''}{self.message}"
        if self.value:
            text += f"\n    got:     {self.value}"
        if self.allowed:
            text += f"\n    allowed: {self.allowed}"
        return text


class InputError(TestbedError):
    """What the user wrote is wrong. Carries every problem found, not only the first."""

    exit_status = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


class MachineError(TestbedError):
    """This machine cannot do what was asked; the text says what is missing and which command brings it."""

    exit_status = 3


class RunError(TestbedError):
    """Something failed while the network was being built or measured."""

    exit_status = 1
