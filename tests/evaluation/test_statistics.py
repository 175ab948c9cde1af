"""Means, clustered standard errors and ratios against hand-computed values and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st

from trimtab.errors import UsageError
from trimtab.evaluation.statistics import by_prompt, estimate, finite, ratio

NUMBERS = st.floats(-100, 100)


def test_by_hand() -> None:
    got = estimate([1.0, 2.0, 3.0, 6.0])
    assert got.mean == 3.0
    assert got.se == pytest.approx(math.sqrt((4 + 1 + 0 + 9) / 3 / 4))
    assert (got.n, got.rows, got.test) == (4, 4, "mean; SE over rows")


def test_one_unit_has_no_standard_error() -> None:
    assert math.isnan(estimate([1.0, 2.0], ["a", "a"]).se)


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=2, max_size=30))
def test_equal_clusters_are_their_means(rows: list[tuple[float, float, float]]) -> None:
    x = np.array(rows)
    got = estimate(x.ravel(), [i for i, row in enumerate(rows) for _ in row])
    means = x.mean(axis=1)
    assert got.n == len(rows)
    assert got.se == pytest.approx(means.std(ddof=1) / math.sqrt(len(rows)), abs=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_clusters_of_any_size_equal_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, 12, size=60)
    x = rng.normal(size=60) + prompts
    fit = sm.OLS(x, np.ones(60)).fit(cov_type="cluster", cov_kwds={"groups": prompts})
    got = estimate(x, prompts.tolist())
    assert got.mean == pytest.approx(fit.params[0])
    assert got.se == pytest.approx(fit.bse[0])


def test_samples_of_one_prompt_are_not_independent() -> None:
    rng = np.random.default_rng(0)
    prompts = np.repeat(np.arange(20), 8).tolist()
    x = np.repeat(rng.normal(size=20), 8) + 0.1 * rng.normal(size=160)
    assert estimate(x, prompts).se > 2 * estimate(x).se


def test_ratio_has_the_spread_of_repeated_experiments() -> None:
    rng = np.random.default_rng(1)
    found, errors = [], []
    for _ in range(400):
        tokens = rng.integers(1, 40, size=80)
        got = ratio(tokens * 0.3 + rng.normal(size=80), tokens)
        found.append(got.mean)
        errors.append(got.se)
    # The spread of 400 draws is known to about 3.5%; the delta method is a few percent off.
    assert np.std(found) == pytest.approx(np.mean(errors), rel=0.15)
    assert np.mean(found) == pytest.approx(0.3, abs=0.002)


def test_rows_become_scores() -> None:
    assert by_prompt(["b", "a", "b"], [1.0, 2.0, 3.0]) == {"b": [1.0, 3.0], "a": [2.0]}


@pytest.mark.parametrize("values", [[], [1.0, float("nan")], [float("inf")]])
def test_what_is_not_a_number_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="finite numbers"):
        finite(values)
