"""A walk-through as a page: the commands in its ``sh`` blocks, what they print in the ``text`` blocks behind them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "walkthroughs"
INDEX = FOLDER / "README.md"

_BLOCK = re.compile(
    r"^```sh\n(?P<commands>.*?)^```\n(?P<gap>\n*)(?:^```text\n(?P<printed>.*?)^```\n)?", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Step:
    """One block of commands, where it stands, and what it prints: nothing, if no output stands behind it."""

    page: Path
    line: int
    commands: str
    printed: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def steps_of(page: Path) -> list[Step]:
    """The steps of a page, in order."""
    text = page.read_text()
    return [
        Step(page, text.count("\n", 0, match.start()) + 1, match["commands"], match["printed"] or "")
        for match in _BLOCK.finditer(text)
    ]


def with_output(text: str, printed: list[str]) -> str:
    """The text of a page whose steps print what is given, one after the other."""
    remaining = iter(printed)

    def replaced(match: re.Match[str]) -> str:
        output = next(remaining)
        shown = f"\n```text\n{output}```\n" if output else ""
        return f"```sh\n{match['commands']}```\n{shown}{match['gap'] if match['printed'] is None else ''}"

    return _BLOCK.sub(replaced, text)
