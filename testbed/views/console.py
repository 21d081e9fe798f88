"""Where tables go: as wide as the terminal, and in a file or a pipe as wide as they need."""

from __future__ import annotations

import sys

from rich.console import Console

_WIDTH_WITHOUT_TERMINAL = 200


def open_console() -> Console:
    """A console on standard output, without colours and line breaks where it is no terminal."""
    return Console() if sys.stdout.isatty() else Console(width=_WIDTH_WITHOUT_TERMINAL, no_color=True)
