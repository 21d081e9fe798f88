"""Sizes of a terminal, as clients send them: JSON objects, one after the other."""

from __future__ import annotations

import json
from collections.abc import Iterator

_LONGEST = 1000


class TerminalSizes:
    """Takes in bytes in pieces of any length."""

    def __init__(self) -> None:
        self._text = ""
        self._json = json.JSONDecoder()

    def take(self, data: bytes) -> Iterator[tuple[int, int]]:
        """Columns and rows of the sizes that are complete with these bytes; what is none is left out."""
        self._text = (self._text + data.decode("utf-8", "replace")).lstrip()
        while self._text:
            try:
                size, end = self._json.raw_decode(self._text)
            except ValueError:
                if len(self._text) > _LONGEST:  # no beginning of a size
                    self._text = ""
                return
            self._text = self._text[end:].lstrip()
            columns, rows = (size.get(key) if isinstance(size, dict) else None for key in ("Width", "Height"))
            if isinstance(columns, int) and isinstance(rows, int) and 0 < columns < 65536 and 0 < rows < 65536:
                yield columns, rows
