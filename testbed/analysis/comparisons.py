"""Every comparison: its ratio, interval, p-values, noise floor and verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from testbed.analysis.cells import STALE, Series, by_side, paired, series_of
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
from testbed.contrast import Contrast

Statistic = Literal["median", "p99"]
Role = Literal["primary", "exploratory"]

# Figures that follow from others of the same cells: never of the primary family.
_SECONDARY_METRICS = ("connections_per_s", "requests_per_s")
STATISTICS: tuple[Statistic, ...] = ("median", "p99")


@dataclass(frozen=True)
class Comparison:
    """One ratio over the valid rounds, and what may be said about it. ``series`` is that of the numerator.

    ``p_adjusted`` is Holm-corrected over the primary family and None for an exploratory comparison. ``floor`` is
    the noise floor as a factor >= 1 and ``aa_*`` the A/A ratio it comes from; they are None where no A/A pair was
    measured.
    """

    series: Series
    statistic: Statistic
    contrast: Contrast
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
    contrast: Contrast
    logs: Floats

    @property
    def noise_key(self) -> tuple[Series, Statistic, tuple[str, str]]:
        """Whose A/A pair tells the noise."""
        return denominator_series(self.contrast, self.series), self.statistic, self.contrast.noise


def compare_arms(
    table: pd.DataFrame,
    contrasts: Sequence[Contrast],
    primary_probe: str,
    seed: int,
    smoke: bool = False,
    resamples: int = RESAMPLES,
) -> list[Comparison]:
    """All comparisons of a cell table (see :func:`testbed.analysis.cells.cells`).

    The primary family is the headline contrasts of the median of ``primary_probe``: one member per build, payload, path
    and contrast. All else is exploratory.
    """
    pairs, noise = _pairs(table, contrasts)
    intervals = ratio_intervals([*(pair.logs for pair in pairs), *noise.values()], seed, resamples)
    aa = {
        key: (ratio_of(logs), interval)
        for (key, logs), interval in zip(noise.items(), intervals[len(pairs) :], strict=True)
    }
    p_values = [sign_flip_p(pair.logs, seed) for pair in pairs]
    family = [index for index, pair in enumerate(pairs) if _is_primary(pair, primary_probe)]
    adjusted = dict(zip(family, holm([p_values[index] for index in family]), strict=True))
    found = []
    for index, (pair, interval, p) in enumerate(zip(pairs, intervals, p_values, strict=False)):
        aa_ratio, aa_interval = aa.get(pair.noise_key, (None, None))
        floor = noise_floor(aa_interval)
        verdict = judge(
            numerator=pair.contrast.numerator,
            denominator=pair.contrast.denominator,
            metric=pair.series.metric,
            rounds=pair.logs.size,
            ratio=ratio_of(pair.logs),
            interval=interval,
            p_value=adjusted.get(index, p),
            family=len(family) if index in adjusted else 1,
            floor=floor,
            smoke=smoke,
            exploratory=index not in adjusted,
        )
        found.append(
            Comparison(
                series=pair.series,
                statistic=pair.statistic,
                contrast=pair.contrast,
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


def denominator_series(contrast: Contrast, series: Series) -> Series:
    """The series that a contrast compares ``series`` with: the same, but where paths are compared."""
    return replace(series, path=contrast.denominator_path) if contrast.denominator_path else series


def _is_primary(pair: _Pair, primary_probe: str) -> bool:
    return (
        pair.contrast.headline
        and pair.statistic == "median"
        and pair.series.probe == primary_probe
        and pair.series.metric not in _SECONDARY_METRICS
    )


_NoiseKey = tuple[Series, Statistic, tuple[str, str]]


def _pairs(table: pd.DataFrame, contrasts: Sequence[Contrast]) -> tuple[list[_Pair], dict[_NoiseKey, Floats]]:
    """The pairs to compare and the A/A pairs: of all arms that were measured, even if no round of them is valid."""
    sides = by_side(table)
    pairs: list[_Pair] = []
    noise: dict[_NoiseKey, Floats] = {}
    for series in series_of(table):
        if series.metric == STALE:
            continue  # mostly 0, of which there are no ratios
        for statistic in STATISTICS:
            for contrast in contrasts:
                if contrast.numerator_path not in ("", series.path):
                    continue
                below = denominator_series(contrast, series)
                found = sides.get((series, contrast.numerator_arm)), sides.get((below, contrast.denominator_arm))
                if found[0] is None or found[1] is None or found[0][statistic].isna().all():
                    continue
                pair = _Pair(series, statistic, contrast, log_ratios(*paired(found[0], found[1], statistic)))
                pairs.append(pair)
                again, once = (sides.get((below, arm)) for arm in contrast.noise)
                if pair.noise_key not in noise and again is not None and once is not None:
                    noise[pair.noise_key] = log_ratios(*paired(again, once, statistic))
    return pairs, noise
