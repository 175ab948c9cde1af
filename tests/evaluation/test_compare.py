"""Paired comparisons against scipy, statsmodels and hand-computed values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from trimtab.errors import UsageError
from trimtab.evaluation.statistics import (
    Scores,
    bootstrap,
    holm,
    paired_differences,
    paired_power,
    sample_size,
    sign_flips,
    wilcoxon,
    win_tie_lose,
)


def against_zero(d: np.ndarray) -> tuple[Scores, Scores]:
    """Two methods whose paired differences are d."""
    return {str(i): [float(x)] for i, x in enumerate(d)}, {str(i): [0.0] for i in range(len(d))}


def test_pairs_meet_by_name_and_by_their_means() -> None:
    a, b = {"x": [1.0, 3.0], "y": [5.0]}, {"y": [1.0], "x": [1.0]}
    assert paired_differences(a, b).tolist() == [1.0, 4.0]
    with pytest.raises(UsageError, match=r"unpaired: \['z'\]"):
        paired_differences({**a, "z": [1.0]}, b)


# --- bootstrap -----------------------------------------------------------------------------------


def test_an_interval_is_scipys_and_repeats() -> None:
    d = np.random.default_rng(0).exponential(size=40)
    got = bootstrap(*against_zero(d), resamples=2000, seed=3)
    want = scipy.stats.bootstrap(
        (np.sort(d),), np.mean, n_resamples=2000, rng=np.random.default_rng(3)
    )
    assert (got.low, got.high) == pytest.approx(tuple(want.confidence_interval))
    assert got == bootstrap(*against_zero(d), resamples=2000, seed=3)
    assert got != bootstrap(*against_zero(d), resamples=2000, seed=4)
    assert (got.n, got.difference) == (40, pytest.approx(d.mean()))
    assert got.se == pytest.approx(d.std(ddof=1) / np.sqrt(40), rel=0.1)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for i in range(400):
        got = bootstrap(*against_zero(rng.exponential(size=60)), resamples=400, seed=i)
        covered += got.low <= 1.0 <= got.high
    # 400 intervals at 95%: below 0.90 or above 0.99 would be over four standard deviations off.
    assert 0.90 < covered / 400 < 0.99


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=20))
def test_intervals_lie_among_the_differences(values: list[float]) -> None:
    got = bootstrap(*against_zero(np.array(values)), resamples=200)
    assert min(values) - 1e-9 <= got.low <= got.high <= max(values) + 1e-9


def test_intervals_move_with_their_data() -> None:
    d = np.random.default_rng(1).normal(size=40)
    got, moved = (bootstrap(*against_zero(x), resamples=999) for x in (d, d + 5))
    assert got.low < got.difference < got.high
    assert (moved.low, moved.high) == pytest.approx((got.low + 5, got.high + 5))


def test_no_spread_is_a_point() -> None:
    got = bootstrap({"x": [2.0], "y": [3.0]}, {"x": [1.0], "y": [2.0]})
    assert (got.low, got.high, got.se) == (1.0, 1.0, 0.0)


# --- tests ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "digits", "said"),
    [
        (20, 9, "exact"),
        (80, 9, "normal approximation"),
        (10, 0, "all sign flips"),
        (30, 1, "normal approximation"),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_wilcoxon_is_scipys(n: int, digits: int, said: str, seed: int) -> None:
    d = np.round(np.random.default_rng(seed).normal(0.4, 2.0, size=n), digits)
    got = wilcoxon(*against_zero(d))
    used = d[d != 0]
    want = scipy.stats.wilcoxon(used)
    assert (got.statistic, got.p) == pytest.approx((want.statistic, want.pvalue))
    assert (got.n, got.ties) == (len(used), n - len(used))
    assert got.difference == pytest.approx(d.mean(), rel=1e-12)
    assert got.se == pytest.approx(d.std(ddof=1) / np.sqrt(n))
    assert said in got.test


def test_wilcoxon_by_hand() -> None:
    # Ranks 1, 2, 3 with one minus at rank 1: sums 5 and 1; of 8 sign flips, 4 are as extreme.
    got = wilcoxon(*against_zero(np.array([-1.0, 2.0, 3.0])))
    assert (got.statistic, got.p) == (1.0, 0.5)


def test_equal_methods_do_not_differ() -> None:
    got = wilcoxon(*against_zero(np.zeros(4)))
    assert (got.p, got.n, got.ties) == (1.0, 0, 4)


def test_sign_flips_are_counted() -> None:
    assert sign_flips([1.0] * 8) == 2 / 256
    assert sign_flips([1.0, -1.0]) == 1
    assert sign_flips([0.0, 0.0]) == 1


@pytest.mark.parametrize("n", [3, 8, 12])
def test_sign_flips_are_all_of_them(n: int) -> None:
    d = np.random.default_rng(n).normal(0.5, 1.0, size=n).round(1)
    sums = np.abs(np.array(list(itertools.product((1, -1), repeat=n))) @ d)
    assert sign_flips(d.tolist()) == pytest.approx(np.mean(sums >= abs(d.sum()) - 1e-9))


@pytest.mark.parametrize("size", [1, 2, 5, 12])
def test_holm_is_statsmodels(size: int) -> None:
    p = np.random.default_rng(size).beta(0.3, 2.0, size=size).round(2)
    got = holm({f"method {i}": float(value) for i, value in enumerate(p)})
    assert list(got) == [f"method {i}" for i in range(size)]
    assert list(got.values()) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_by_hand() -> None:
    got = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert got == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})


def test_a_record_by_hand() -> None:
    got = win_tie_lose(*against_zero(np.array([1.0, 2.0, 3.0, 0.05, -1.0])), margin=0.1)
    assert (got.wins, got.ties, got.losses, got.n, got.rate) == (3, 1, 1, 5, 0.7)
    assert got.se == pytest.approx(np.std([1, 1, 1, 0.5, 0], ddof=1) / np.sqrt(5))
    assert got.p == pytest.approx(scipy.stats.binomtest(3, 4).pvalue)


# --- power ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", [0.1, -0.3, 0.8, 2.0])
@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_sample_size_is_statsmodels(difference: float, power: float) -> None:
    got = sample_size(difference, 1.0, power=power)
    less, enough = (TTestPower().power(abs(difference), n, 0.05) for n in (got - 1, got))
    assert paired_power(got, difference, 1.0) == pytest.approx(enough, abs=1e-6)
    assert less < power <= enough + 1e-9


def test_power_is_the_rate_of_findings() -> None:
    d = np.random.default_rng(2).normal(0.5, 1.0, size=(4000, 30))
    found = (scipy.stats.ttest_1samp(d, 0.0, axis=1).pvalue < 0.05).mean()
    # 4000 trials: one standard deviation is 0.007.
    assert found == pytest.approx(paired_power(30, 0.5, 1.0), abs=0.028)


def test_a_sample_size_for_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="smallest difference worth finding"):
        sample_size(0.0, 1.0)
