"""How a process enters a control group. A file of its own, because the parent of all pods' processes imports it."""

from __future__ import annotations

import os
from collections.abc import Sequence


def join(entrances: Sequence[int]) -> None:
    """Move the calling process into a group, whose entrances are open."""
    for descriptor in entrances:
        os.write(descriptor, b"0")


def joining(entrances: Sequence[str], argv: Sequence[str]) -> list[str]:
    """The command line that runs ``argv`` in a group."""
    enter = 'while [ "$1" != -- ]; do echo 0 >"$1"; shift; done; shift; exec "$@"'
    return ["sh", "-c", enter, "sh", *entrances, "--", *argv] if entrances else list(argv)
