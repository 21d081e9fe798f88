"""The statistics of a paired comparison, as pure functions of numbers.

The unit of replication is the round: within a round every arm is measured once, so each round gives one figure
(a median or a 99th percentile) per arm. The ratio of two arms is

    exp( mean over the rounds of  log(numerator of the round / denominator of the round) ),

the geometric mean of the paired ratios. It treats "twice as slow" and "twice as fast" as equally far from 1, it
does not depend on the unit, and swapping the arms inverts it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
SIGNIFICANCE = 0.05
RESAMPLES = 10_000
EXACT_UP_TO_ROUNDS = 20  # 2**19 sums, some milliseconds; beyond that the sign flips are drawn
SAMPLES_FOR_P999 = 10_000
SAMPLES_FOR_P99 = 100
# Log-ratios closer together than this are one value: rounding noise of the logarithm, not a spread.
SAME = 1e-12


@dataclass(frozen=True)
class Interval:
    """A two-sided confidence interval, in the unit of the estimate."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        """Whether ``value`` lies outside the closed interval."""
        return value < self.low or value > self.high


def log_ratios(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """The log-ratio of every round whose two figures are positive and finite; other rounds are left out.

    Both arguments hold one figure a round, in the same order and unit.
    """
    above = np.asarray(numerator, dtype=float)
    below = np.asarray(denominator, dtype=float)
    usable = np.isfinite(above) & np.isfinite(below) & (above > 0) & (below > 0)
    logs: Floats = np.log(above[usable] / below[usable])
    return logs


def ratio_of(logs: ArrayLike) -> float:
    """exp of the mean log-ratio; NaN without rounds."""
    values = np.asarray(logs, dtype=float)
    return float(np.exp(values.mean())) if values.size else float("nan")


def ratio_intervals(
    rows: Sequence[ArrayLike], seed: int, resamples: int = RESAMPLES, confidence: float = CONFIDENCE
) -> list[Interval | None]:
    """The BCa bootstrap interval (Efron 1987) of :func:`ratio_of` for each row of log-ratios.

    Rows of the same length share their resampling indices, so the interval of a row depends on that row and the
    seed alone, and many rows cost little more than one. A row with fewer than two rounds has no interval (None). A
    row without any spread has the interval [ratio, ratio]: nothing that was resampled can differ.
    """
    results: list[Interval | None] = [None] * len(rows)
    by_length: dict[int, list[int]] = {}
    arrays = [np.asarray(row, dtype=float) for row in rows]
    for index, row in enumerate(arrays):
        if row.size < 2:
            continue
        if np.ptp(row) < SAME:
            ratio = ratio_of(row)
            results[index] = Interval(ratio, ratio)
        else:
            by_length.setdefault(row.size, []).append(index)
    for indices in by_length.values():
        found = stats.bootstrap(
            (np.stack([arrays[index] for index in indices]),),
            np.mean,
            axis=-1,
            vectorized=True,
            n_resamples=resamples,
            confidence_level=confidence,
            method="BCa",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        for index, low, high in zip(indices, np.exp(found.low), np.exp(found.high), strict=True):
            results[index] = Interval(float(low), float(high))
    return results


def sign_flip_p(logs: ArrayLike, seed: int, draws: int = 100_000) -> float:
    """Two-sided p-value of "the log-ratios are symmetric about zero", by flipping signs (Fisher's randomisation test).

    The statistic is the absolute sum. Up to 20 rounds all sign patterns are counted, which makes the p-value exact;
    above, ``draws`` patterns are drawn and the p-value is (k + 1) / (draws + 1), which never claims more than was
    drawn (Phipson and Smyth 2010). 1 without rounds or when every log-ratio is zero.
    """
    values = np.asarray(logs, dtype=float)
    scale = float(np.abs(values).sum())
    if scale < SAME:
        return 1.0
    observed = abs(float(values.sum()))
    # A pattern that ties with the observed one counts; the slack absorbs the rounding of sums in another order.
    threshold = observed - 1e-9 * scale
    if values.size <= EXACT_UP_TO_ROUNDS:
        # The first sign is fixed: flipping all signs leaves the absolute sum as it is, so half of the patterns suffice.
        sums = values[:1]
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float(np.count_nonzero(np.abs(sums) >= threshold) / sums.size)
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, draws, 10_000):
        signs = rng.integers(0, 2, size=(min(10_000, draws - start), values.size), dtype=np.int8) * 2 - 1
        extreme += int(np.count_nonzero(np.abs(signs @ values) >= threshold))
    return (extreme + 1) / (draws + 1)


def smallest_p(rounds: int) -> float:
    """The smallest p-value the exact sign-flip test can give: one pattern and its mirror among 2**rounds."""
    return 1.0 if rounds < 1 else 2.0 ** (1 - rounds)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979) of a family, in the order given; valid whatever the dependence."""
    adjusted = [0.0] * len(p_values)
    running = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted


def noise_floor(aa_interval: Interval | None) -> float | None:
    """The noise floor as a factor >= 1, from the interval of an A/A ratio.

    An A/A pair executes the same arm twice a round, so its ratio is 1 but for noise: exp of the largest absolute
    log bound of its interval is a ratio which this run produced, or could have, without any cause. None when there
    is no interval.
    """
    if aa_interval is None:
        return None
    return float(np.exp(max(abs(np.log(aa_interval.low)), abs(np.log(aa_interval.high)))))


def median_interval(round_values: ArrayLike, confidence: float = CONFIDENCE) -> Interval | None:
    """Distribution-free interval of the median over rounds: two order statistics (binomial, symmetric).

    The k-th smallest and k-th largest value enclose the median with probability 1 - 2 * P(Binomial(n, 1/2) < k); the
    largest such k is taken. None below 6 rounds, where even the extremes give less than 95%.
    """
    values = np.sort(np.asarray(round_values, dtype=float))
    count = values.size
    k = int(stats.binom.ppf((1 - confidence) / 2, count, 0.5)) if count else 0
    # ppf gives the first k with P(X <= k) >= alpha/2, hence P(X < k) < alpha/2: the k-th smallest (from 1) may be used.
    if k < 1:
        return None
    return Interval(float(values[k - 1]), float(values[count - k]))
