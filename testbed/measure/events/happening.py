"""What is written down of an event that happened."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Happening:
    """One event of a cell, as it came: times in ms from the begin of measuring.

    ``written_ms``: when its write to the API, or what else it does, began. ``confirmed_ms``: when all that follows from
    it was done, and everything that balances connections had confirmed it. ``removed``, ``added``: pods that the path's
    Service lost and won by it. ``action``: the field of the event in the file.
    """

    what: str
    written_ms: float
    confirmed_ms: float
    removed: tuple[str, ...]
    added: tuple[str, ...]
    action: str = "scale"
