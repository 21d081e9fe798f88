"""Every comparison of two arms: its ratio, interval, p-values, noise floor and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from testbed.analysis.cells import Series, paired, select, series_of
from testbed.analysis.statistics import (
    RESAMPLES,
    Floats,
    Interval,
    holm,
    log_ratios,
    noise_floor,
    ratio_intervals,
    ratio_of,
    sign_flip_p,
)
from testbed.analysis.verdict import Verdict, judge

Statistic = Literal["median", "p99"]
Role = Literal["primary", "exploratory"]

# Numerator, denominator. The pair with the smaller MTU splits a throughput difference in two: overlay against
# routed at the overlay's MTU is the path's cost, routed at the overlay's MTU against routed is the cost of the
# smaller packets.
PAIRS = (("overlay", "routed"), ("overlay", "routed_overlay_mtu"), ("routed_overlay_mtu", "routed"))
HEADLINE = PAIRS[0]
AA_PAIR = ("routed_aa", "routed")
STATISTICS: tuple[Statistic, ...] = ("median", "p99")


@dataclass(frozen=True)
class Comparison:
    """One ratio of two arms over the valid rounds, and what may be said about it.

    ``p_adjusted`` is Holm-corrected over the primary family and None for an exploratory comparison. ``floor`` is
    the noise floor as a factor >= 1 and ``aa_*`` the A/A ratio it comes from; they are None where no A/A pair was
    measured.
    """

    series: Series
    statistic: Statistic
    numerator: str
    denominator: str
    role: Role
    rounds: int
    ratio: float
    interval: Interval | None
    p: float
    p_adjusted: float | None
    aa_ratio: float | None
    aa_interval: Interval | None
    floor: float | None
    verdict: Verdict


@dataclass(frozen=True)
class _Pair:
    series: Series
    statistic: Statistic
    numerator: str
    denominator: str
    logs: Floats


def compare_arms(
    table: pd.DataFrame, primary_probe: str, seed: int, smoke: bool = False, resamples: int = RESAMPLES
) -> list[Comparison]:
    """All comparisons of a cell table (see :func:`testbed.analysis.cells.cells`).

    The primary family is overlay/routed of the median of ``primary_probe``: one member per build, payload and path.
    All else is exploratory.
    """
    pairs, noise = _pairs(table)
    intervals = ratio_intervals([pair.logs for pair in (*pairs, *noise)], seed, resamples)
    aa = {
        (pair.series, pair.statistic): (ratio_of(pair.logs), interval)
        for pair, interval in zip(noise, intervals[len(pairs) :], strict=True)
    }
    p_values = [sign_flip_p(pair.logs, seed) for pair in pairs]
    family = [index for index, pair in enumerate(pairs) if _is_primary(pair, primary_probe)]
    adjusted = dict(zip(family, holm([p_values[index] for index in family]), strict=True))
    found = []
    for index, (pair, interval, p) in enumerate(zip(pairs, intervals, p_values, strict=False)):
        aa_ratio, aa_interval = aa.get((pair.series, pair.statistic), (None, None))
        floor = noise_floor(aa_interval)
        verdict = judge(
            numerator=pair.numerator,
            denominator=pair.denominator,
            metric=pair.series.metric,
            rounds=pair.logs.size,
            ratio=ratio_of(pair.logs),
            interval=interval,
            p_value=adjusted.get(index, p),
            family=len(family) if index in adjusted else 1,
            floor=floor,
            smoke=smoke,
        )
        found.append(
            Comparison(
                series=pair.series,
                statistic=pair.statistic,
                numerator=pair.numerator,
                denominator=pair.denominator,
                role="primary" if index in adjusted else "exploratory",
                rounds=pair.logs.size,
                ratio=ratio_of(pair.logs),
                interval=interval,
                p=p,
                p_adjusted=adjusted.get(index),
                aa_ratio=aa_ratio,
                aa_interval=aa_interval,
                floor=floor,
                verdict=verdict,
            )
        )
    return found


def _is_primary(pair: _Pair, primary_probe: str) -> bool:
    return (
        (pair.numerator, pair.denominator) == HEADLINE
        and pair.statistic == "median"
        and pair.series.probe == primary_probe
    )


def _pairs(table: pd.DataFrame) -> tuple[Sequence[_Pair], Sequence[_Pair]]:
    """The pairs to compare and the A/A pairs: of all arms that were measured, even if no round of them is valid."""
    pairs: list[_Pair] = []
    noise: list[_Pair] = []
    for series in series_of(table):
        rows = select(table, series)
        arms = set(rows["arm"])
        for statistic in STATISTICS:
            if rows[statistic].isna().all():
                continue
            for numerator, denominator in (*PAIRS, AA_PAIR):
                if numerator in arms and denominator in arms:
                    logs = log_ratios(*paired(rows, numerator, denominator, statistic))
                    pair = _Pair(series, statistic, numerator, denominator, logs)
                    (noise if (numerator, denominator) == AA_PAIR else pairs).append(pair)
    return pairs, noise
