"""Tables of plain text, the same on a terminal and in a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def aligned(headers: Sequence[str], rows: Iterable[Sequence[object]], indent: str = "") -> str:
    """Rows under their headers, each column as wide as its widest cell, a line a row."""
    lines = [list(headers), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        indent + "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip() + "\n"
        for line in lines
    )
