"""Quantities with their unit, as they are written for a link: ``100Mbit``, ``2ms``, ``0.1%``."""

from __future__ import annotations

import re

_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_MBIT = {"kbit": 1e-3, "Mbit": 1.0, "Gbit": 1e3}
_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}

RATE_FORM = "a number and kbit, Mbit or Gbit, for example 100Mbit; from 8kbit to 400Gbit"
DELAY_FORM = "a number and us, ms or s, for example 500us or 2ms; at most 60s"
LOSS_FORM = "a number from 0 to 100 and %, for example 0.1%"


def parse_rate_mbit(text: str) -> float:
    """A bit rate in Mbit/s. Raises ValueError with the form that is expected."""
    value = _parse(text, _MBIT, RATE_FORM)
    if not 0.008 <= value <= 400_000:
        raise ValueError(RATE_FORM)
    return value


def parse_delay_ms(text: str) -> float:
    """A time in ms. Raises ValueError with the form that is expected."""
    value = _parse(text, _MS, DELAY_FORM)
    if value > 60_000:
        raise ValueError(DELAY_FORM)
    return value


def parse_loss_pct(text: str) -> float:
    """A share of packets in percent. Raises ValueError with the form that is expected."""
    value = _parse(text, {"%": 1.0}, LOSS_FORM)
    if value > 100:
        raise ValueError(LOSS_FORM)
    return value


def _parse(text: str, factors: dict[str, float], form: str) -> float:
    match = re.fullmatch(_NUMBER + r"\s?([A-Za-z%]+)", text)
    # Upper and lower case are told apart only where it matters: nobody means milli-bits or mega-seconds.
    factor = {unit.lower(): value for unit, value in factors.items()}.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        raise ValueError(form + _meant(text, factors))
    return float(match.group(1)) * factor


# Other ways to write the units; ``b`` and ``bps`` are bits here, since nobody counts a link's bytes.
_OTHER_UNITS = (
    (re.compile(r"([kmg])(b|bits?|bps|bit/s|bits/s|b/s)?"), {"k": "kbit", "m": "Mbit", "g": "Gbit"}),
    (re.compile(r"(µ|u|m|)(s|secs?|seconds?)"), {"µ": "us", "u": "us", "m": "ms", "": "s"}),
    (re.compile(r"()(percent|pct)?"), {"": "%"}),
)


def _meant(text: str, factors: dict[str, float]) -> str:
    """``; did you mean 100Mbit?`` for a quantity whose unit is written in another way."""
    match = re.fullmatch(_NUMBER + r"\s?(\S*)", text)
    for pattern, units in _OTHER_UNITS if match else ():
        assert match is not None
        found = pattern.fullmatch(match.group(2).lower())
        unit = units.get(found.group(1)) if found else None
        if unit in factors:
            return f"; did you mean {match.group(1)}{unit}?"
    return ""
