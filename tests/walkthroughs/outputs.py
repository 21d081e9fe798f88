"""Whether commands print what their page shows, but for what no two clusters have in common.

Those are the addresses that pods and Services are given, the random ends of names, node ports and clients' ports. They
may differ from the page's, but one for one: what is the same on the page must be the same in the output, and what
differs must differ. Times and ages are any time, ``...`` is anything within a line, and a line of it any lines.
"""

from __future__ import annotations

import re

_RANDOM = "bcdfghjklmnpqrstvwxz2456789"  # the letters of Kubernetes' generated names
_CHANGING = re.compile(
    rf"""
      (?P<lines>^[ ]*\.\.\.\n)
    | (?P<any>\.\.\.)
    | (?P<time>\b\d+(?:\.\d+)?(?:/\d+\.\d+)*[ ]?ms\b)
    | (?P<age>\b(?:\d+[dhms]){{1,2}}\b)
    | (?P<pod>\b10\.244\.\d+\.(?!1\b|254\b)\d+\b)
    | (?P<service>\b10\.96\.(?!0\.)\d+\.\d+\b)
    | (?P<pod_hash>(?<=-)[{_RANDOM}]{{8,10}}-[{_RANDOM}]{{5}}\b)
    | (?P<template_hash>(?<=-)[{_RANDOM}]{{8,10}}\b)
    | (?P<hash>(?<=-)(?=[a-z]*\d)[{_RANDOM}]{{5}}\b)
    | (?P<port>\b[3-6]\d{{4}}\b)
    | (?P<spaces>[ ]+)
    """,
    re.VERBOSE | re.MULTILINE,
)
_PATTERNS = {
    "lines": r"(?:.*\n)*?",
    "any": r".*",
    "time": r"\d+(?:\.\d+)?(?:/\d+\.\d+)*[ ]?ms",
    "age": r"(?:\d+[dhms]){1,2}",
    "pod": r"10\.244\.\d+\.\d+",
    "service": r"10\.96\.\d+\.\d+",
    "pod_hash": rf"[{_RANDOM}]{{8,10}}-[{_RANDOM}]{{5}}",
    "template_hash": rf"[{_RANDOM}]{{8,10}}",
    "hash": rf"[{_RANDOM}]{{5}}",
    "port": r"[3-6]\d{4}",
    "spaces": r"[ ]+",
}
_FREE = ("lines", "any", "time", "age", "spaces")


class Names:
    """What the page's addresses, names and ports are called in the cluster at hand."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def match(self, shown: str, printed: str) -> bool:
        """Whether an output is what the page shows; if so, the names that occur in it are known from then on."""
        groups: dict[str, str] = {}
        pattern = ""
        position = 0
        shown = _without_trailing_spaces(shown)
        for found in _CHANGING.finditer(shown):
            pattern += re.escape(shown[position : found.start()])
            position = found.end()
            kind, word = found.lastgroup or "", found.group()
            if kind in _FREE:
                pattern += _PATTERNS[kind]
            elif word in self._names:
                pattern += re.escape(self._names[word])
            elif word in groups.values():
                (group,) = (name for name, value in groups.items() if value == word)
                pattern += f"(?P={group})"
            else:
                group = f"word{len(groups)}"
                groups[group] = word
                pattern += f"(?P<{group}>{_PATTERNS[kind]})"
        pattern += re.escape(shown[position:])
        match = re.fullmatch(pattern, _without_trailing_spaces(printed))
        if match is None:
            return False
        names = {**self._names, **{word: match[group] for group, word in groups.items()}}
        if len(set(names.values())) != len(names):
            return False
        self._names = names
        return True


def _without_trailing_spaces(text: str) -> str:
    lines = [line.rstrip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines)
