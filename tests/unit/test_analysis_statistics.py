"""The statistics against samples worked out by hand, and the properties that must hold for any sample."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from testbed.analysis.statistics import (
    Interval,
    holm,
    log_ratios,
    median_interval,
    noise_floor,
    ratio_intervals,
    ratio_of,
    sign_flip_p,
    smallest_p,
)
from testbed.analysis.verdict import judge

figures = st.floats(min_value=1.0, max_value=1e5)
logs_lists = st.lists(st.floats(min_value=-2, max_value=2), min_size=1, max_size=10)


def test_ratio_is_the_geometric_mean_of_the_paired_ratios() -> None:
    logs = log_ratios([110, 240, 390], [100, 200, 300])  # 1.1, 1.2 and 1.3
    assert ratio_of(logs) == pytest.approx((1.1 * 1.2 * 1.3) ** (1 / 3), rel=1e-12)
    assert ratio_of(logs) == pytest.approx(1.197216, abs=1e-6)


def test_twice_and_half_as_slow_cancel_out() -> None:
    assert ratio_of(log_ratios([200, 50], [100, 100])) == pytest.approx(1.0)


def test_rounds_without_a_positive_figure_are_left_out() -> None:
    logs = log_ratios([110, float("nan"), 0, 120], [100, 100, 100, float("inf")])
    assert logs.size == 1
    assert math.isnan(ratio_of([]))


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=15), st.floats(min_value=1e-3, max_value=1e3))
def test_ratio_does_not_depend_on_the_unit_and_inverts_with_the_arms(
    pairs: list[tuple[float, float]], factor: float
) -> None:
    above, below = np.array(pairs).T
    ratio = ratio_of(log_ratios(above, below))
    assert ratio_of(log_ratios(above * factor, below * factor)) == pytest.approx(ratio, rel=1e-9)
    assert ratio_of(log_ratios(below, above)) == pytest.approx(1 / ratio, rel=1e-9)


@pytest.mark.parametrize(
    ("logs", "expected"),
    [
        ([1, 2, 3], 2 / 8),  # |sum| 6, 4, 2, 0, each twice: only +++ and --- reach 6
        ([3, 2, -1], 4 / 8),  # |sum| 6, 4, 2, 0: the observed 4 is reached by 6 and 4
        ([1, 1, -1], 8 / 8),  # |sum| 3, 1, 1, 1: all reach the observed 1
        ([0.5], 1.0),  # one round: both patterns are as extreme
        ([0.1] * 8, 2 / 256),
        ([0.0, 0.0, 0.0], 1.0),
        ([], 1.0),
        # |sum| 2.9 with all signs alike, 2.7 (the observed one) with either 0.1 against the rest; and mirrors.
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, -0.1], 6 / 256),
    ],
)
def test_exact_sign_flip_p_by_hand(logs: list[float], expected: float) -> None:
    assert sign_flip_p(logs, seed=1) == pytest.approx(expected, rel=1e-12)


@given(logs_lists)
@settings(max_examples=60, deadline=None)
def test_sign_flip_p_equals_counting_every_pattern(logs: list[float]) -> None:
    values = np.array(logs)
    slack = 1e-9 * np.abs(values).sum()
    patterns = np.array(list(itertools.product([1, -1], repeat=len(logs))))
    share = np.mean(np.abs(patterns @ values) >= abs(values.sum()) - slack)
    assert sign_flip_p(logs, seed=1) == pytest.approx(1.0 if np.abs(values).sum() < 1e-12 else share, rel=1e-9)


@given(logs_lists)
def test_sign_flip_p_is_the_same_for_the_other_direction_and_never_below_its_minimum(logs: list[float]) -> None:
    p = sign_flip_p(logs, seed=1)
    assert p == sign_flip_p([-log for log in logs], seed=1)
    assert smallest_p(len(logs)) <= p <= 1


def test_drawn_sign_flips_agree_with_the_exact_ones_and_never_say_zero() -> None:
    rng = np.random.default_rng(3)
    logs = rng.normal(0.01, 0.02, 20)
    exact = sign_flip_p(logs, seed=1)
    drawn = sign_flip_p([*logs, 0.0], seed=1)  # a round without a difference changes no sum, but makes it 21 rounds
    assert drawn == pytest.approx(exact, abs=0.005)
    assert sign_flip_p([0.1] * 60, seed=1, draws=999) == 1 / 1000
    assert sign_flip_p([*logs, 0.0], seed=1) == drawn


def test_smallest_p() -> None:
    assert [smallest_p(rounds) for rounds in (0, 1, 2, 8, 10)] == [1.0, 1.0, 0.5, 1 / 128, 1 / 512]


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04; the last is raised to 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_only_raises(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(raw <= new <= 1 for raw, new in zip(p_values, adjusted, strict=True))
    by_raw = [new for _, new in sorted(zip(p_values, adjusted, strict=True))]
    assert by_raw == sorted(by_raw)
    assert sorted(adjusted) == sorted(holm(p_values[::-1]))


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (5, None),  # 1 - 2/32 is 93.75%
        (6, (1, 6)),  # 1 - 2/64 is 96.9%
        (10, (2, 9)),  # 1 - 2 * 11/1024 is 97.9%
        (12, (3, 10)),  # 1 - 2 * 79/4096 is 96.1%
        (0, None),
    ],
)
def test_interval_of_a_median_by_hand(count: int, expected: tuple[float, float] | None) -> None:
    found = median_interval(np.arange(count, 0, -1))
    assert found == (None if expected is None else Interval(*expected))


def test_noise_floor_is_the_farther_bound_as_a_factor() -> None:
    assert noise_floor(Interval(0.98, 1.01)) == pytest.approx(1 / 0.98)
    assert noise_floor(Interval(0.99, 1.03)) == pytest.approx(1.03)
    assert noise_floor(Interval(1.01, 1.03)) == pytest.approx(1.03)
    assert noise_floor(None) is None


def bca_by_enumeration(logs: list[float], confidence: float = 0.95) -> tuple[float, float]:
    """The BCa interval of the mean from all n**n resamples (Efron 1987, equations 6.5 to 6.7)."""
    values = np.array(logs)
    n, mean = len(values), values.mean()
    resampled = np.sort([values[list(pick)].mean() for pick in itertools.product(range(n), repeat=n)])
    below = (np.mean(resampled < mean - 1e-12) + np.mean(resampled <= mean + 1e-12)) / 2
    bias = stats.norm.ppf(below)
    left_out = mean - (values.sum() - values) / (n - 1)
    acceleration = (left_out**3).sum() / (6 * (left_out**2).sum() ** 1.5)
    bounds = []
    for tail in ((1 - confidence) / 2, (1 + confidence) / 2):
        z = bias + stats.norm.ppf(tail)
        bounds.append(np.quantile(resampled, stats.norm.cdf(bias + z / (1 - acceleration * z))))
    return float(np.exp(bounds[0])), float(np.exp(bounds[1]))


def test_bca_interval_agrees_with_the_enumeration_of_all_resamples() -> None:
    logs = [0.02, 0.05, 0.03, 0.11, 0.04, 0.02]  # skewed, so that bias and acceleration matter
    expected = bca_by_enumeration(logs)
    (found,) = ratio_intervals([logs], seed=1)
    assert found is not None
    assert (found.low, found.high) == pytest.approx(expected, abs=2e-3)


def test_an_interval_depends_on_its_own_row_and_the_seed_only() -> None:
    rng = np.random.default_rng(5)
    rows = [rng.normal(0.1, 0.02, count) for count in (12, 12, 9, 12)]
    together = ratio_intervals(rows, seed=7, resamples=500)
    alone = [ratio_intervals([row], seed=7, resamples=500)[0] for row in rows]
    for one, other in zip(alone, together, strict=True):
        assert one is not None and other is not None
        assert (one.low, one.high) == pytest.approx((other.low, other.high), rel=1e-12)
    (reseeded,) = ratio_intervals(rows[:1], seed=8, resamples=500)
    assert reseeded is not None and reseeded.low != pytest.approx(alone[0].low, rel=1e-6)


def test_degenerate_rows_have_the_interval_that_the_data_allow() -> None:
    assert ratio_intervals([[], [0.1], [0.0, 0.0, 0.0], [math.log(1.5)] * 4], seed=1) == [
        None,
        None,
        Interval(1.0, 1.0),
        Interval(pytest.approx(1.5), pytest.approx(1.5)),
    ]
    (two,) = ratio_intervals([[0.1, 0.2]], seed=1)
    assert two is not None
    assert math.exp(0.1) <= two.low < two.high <= math.exp(0.2)


@given(st.lists(st.floats(min_value=-1, max_value=1), min_size=2, max_size=12))
@settings(max_examples=60, deadline=None)
def test_an_interval_is_finite_and_within_the_data(logs: list[float]) -> None:
    (found,) = ratio_intervals([logs], seed=1, resamples=200)
    assert found is not None
    assert math.exp(min(logs)) * (1 - 1e-9) <= found.low <= found.high <= math.exp(max(logs)) * (1 + 1e-9)


def claims(effect: float, runs: int, rounds: int = 12, noise: float = 0.01) -> int:
    """How many of ``runs`` seeded runs claim a difference when overlay is truly ``effect`` times routed."""
    rng = np.random.default_rng(20)
    routed, again, overlay = np.exp(rng.normal(0, noise, (3, runs, rounds)))
    rows = [log_ratios(o * effect, r) for o, r in zip(overlay, routed, strict=True)]
    aa_rows = [log_ratios(a, r) for a, r in zip(again, routed, strict=True)]
    intervals = ratio_intervals([*rows, *aa_rows], seed=1, resamples=500)
    verdicts = [
        judge(
            numerator="overlay",
            denominator="routed",
            metric="rtt_us",
            rounds=rounds,
            ratio=ratio_of(row),
            interval=interval,
            p_value=sign_flip_p(row, seed=1),
            family=1,
            floor=noise_floor(aa_interval),
        )
        for row, interval, aa_interval in zip(rows, intervals, intervals[runs:], strict=False)
    ]
    return sum(verdict.claimed for verdict in verdicts)


def test_equal_arms_are_rarely_called_different_and_a_clear_difference_always_is() -> None:
    assert claims(effect=1.0, runs=200) <= 10
    assert claims(effect=1.05, runs=50) == 50
