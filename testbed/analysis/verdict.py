"""When a difference may be claimed, and in which words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from testbed.analysis.metrics import is_time
from testbed.analysis.statistics import SIGNIFICANCE, Interval, smallest_p

# With fewer rounds four Holm-corrected comparisons cannot reach p < 0.05: the smallest p of 8 rounds is 1/128.
MINIMUM_ROUNDS = 8

Code = Literal["higher", "lower", "not distinguishable", "inconclusive", "not judged"]


@dataclass(frozen=True)
class Verdict:
    """What may be said about a ratio. ``higher`` and ``lower`` are claims, the other codes are not."""

    code: Code
    text: str

    @property
    def claimed(self) -> bool:
        """Whether a difference is claimed."""
        return self.code in ("higher", "lower")


def percent(ratio: float, *, signed: bool = True) -> str:
    """A ratio as a change in percent: 1.083 is ``+8.3%``; one decimal below 100%, none above."""
    change = (ratio - 1) * 100
    if round(change, 1) == 0:
        return "0.0%"  # never "-0.0%"
    return f"{change:{'+' if signed else ''}.{1 if abs(change) < 100 else 0}f}%".replace("-", "−")


def comparative(metric: str, ratio: float) -> str:
    """The word for a ratio above or below 1: slower or faster for a time, higher or lower for anything else."""
    if is_time(metric):
        return "slower" if ratio > 1 else "faster"
    return "higher" if ratio > 1 else "lower"


def judge(
    *,
    numerator: str,
    denominator: str,
    metric: str,
    rounds: int,
    ratio: float,
    interval: Interval | None,
    p_value: float,
    family: int,
    floor: float | None,
    smoke: bool = False,
    exploratory: bool = False,
) -> Verdict:
    """The verdict on ``ratio`` = numerator / denominator.

    A difference is claimed only if its p-value (already corrected for the ``family`` it belongs to) is below 0.05,
    the 95% ``interval`` excludes 1, *and* the effect exceeds the noise ``floor`` (a factor >= 1) that an A/A pair
    measured in the same run. ``family`` is 1 for a comparison that stands alone. An ``exploratory`` comparison, which
    is not corrected for how many there are, suggests what a primary one says.
    """
    if smoke:
        return Verdict("not judged", "not judged (smoke)")
    if rounds < MINIMUM_ROUNDS:
        return Verdict("inconclusive", f"inconclusive: {_rounds(rounds)}, at least {MINIMUM_ROUNDS} are needed")
    if family * smallest_p(rounds) >= SIGNIFICANCE:
        needed = math.floor(math.log2(2 * family / SIGNIFICANCE)) + 1
        return Verdict(
            "inconclusive",
            f"inconclusive: {_rounds(rounds)} cannot reach p < {SIGNIFICANCE} in a family of {family}, {needed} can",
        )
    assert interval is not None  # there is one from two rounds up
    if floor is None:
        return Verdict("not judged", "not judged: no A/A pair gives a noise floor")
    significant = p_value < SIGNIFICANCE and interval.excludes(1.0)
    if significant and abs(math.log(ratio)) > math.log(floor):
        size = percent(ratio, signed=False).lstrip("−")
        word = comparative(metric, ratio)
        text = f"{numerator} {size} {word} than {denominator}"
        return Verdict("higher" if ratio > 1 else "lower", f"suggests {text}" if exploratory else text)
    if significant:
        why = "is within the noise floor"
    elif p_value < SIGNIFICANCE:
        why = "has an interval that includes 0"
    else:
        why = f"with p = {p_value:.2g}"
    return Verdict("not distinguishable", f"not distinguishable: {percent(ratio)} {why}")


def _rounds(count: int) -> str:
    return f"{count} valid round{'' if count == 1 else 's'}"
