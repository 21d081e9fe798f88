"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_SHOWN = 12


def names_text(names: Iterable[str]) -> str:
    """Names for the ``allowed`` line of a problem, shortened when there are many."""
    listed = list(names)
    more = f", ... ({len(listed)} in all)" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def suggestion(wrong: str, names: Iterable[str]) -> str:
    """`` (did you mean "x"?)`` for the nearest of ``names``, or nothing when none is near."""
    name = nearest(wrong, names)
    return f' (did you mean "{name}"?)' if name is not None else ""


def nearest(wrong: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant; None when none is near."""
    by_folded = {_folded(name): name for name in names}
    folded = _folded(wrong)
    close = get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if not close and len(folded) >= 3:
        close = [name for name in by_folded if name.startswith(folded) or (name and folded.startswith(name))]
    return by_folded[close[0]] if close else None


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
