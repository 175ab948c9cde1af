"""Prefix subsets: how many, which, how evenly drawn."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from trimtab.errors import UsageError
from trimtab.training.preferences import prefix_subset

LENGTH = st.integers(1, 9)
LENGTHS = st.lists(st.tuples(LENGTH, LENGTH), min_size=1, max_size=8)
MULTIPLES: list[float | Literal["all"]] = [0.5, 1, 1.5, 2, 3, 100, "all"]


@given(LENGTHS, st.sampled_from(MULTIPLES), st.integers(0, 3), st.booleans())
def test_sizes(lengths: list[Any], multiple: Any, seed: int, by_row: bool) -> None:
    every = sum(map(max, lengths))
    budget = every if multiple == "all" else round(multiple * len(lengths))
    if budget < 1:
        with pytest.raises(UsageError, match="multiple must draw at least one prefix"):
            prefix_subset(lengths, multiple, seed=seed, by_row=by_row)
        return
    found = prefix_subset(lengths, multiple, seed=seed, by_row=by_row)
    assert found == prefix_subset(lengths, multiple, seed=seed, by_row=by_row)
    assert sum(map(len, found)) == min(budget, every)
    for prefixes, pair in zip(found, lengths, strict=True):
        assert list(prefixes) == sorted(set(prefixes))
        assert set(prefixes) <= set(range(1, max(pair) + 1))


SMALL = [(1, 2), (1, 1), (2, 1)]
"""Five prefixes: three of them can be drawn in ten ways."""


def test_every_subset_has_the_same_odds() -> None:
    """Chi-squared; the odds of a false alarm are 1e-9, and the seeds are always the same."""
    found = Counter(tuple(prefix_subset(SMALL, 1, seed=seed)) for seed in range(5000))
    assert len(found) == math.comb(5, 3)
    assert stats.chisquare(list(found.values())).pvalue > 1e-9


def test_by_row_every_pair_has_the_same_odds() -> None:
    """A pair is drawn first, whatever its length; its prefixes follow. False alarms as above."""
    lengths = [(4, 6), (6, 1), (2, 6), (6, 6)]
    whole = [prefix_subset(lengths, 1.5, seed=seed, by_row=True) for seed in range(4000)]
    assert {tuple(sorted(map(len, found))) for found in whole} == {(0, 0, 0, 6)}
    first = Counter(next(i for i, prefixes in enumerate(found) if prefixes) for found in whole)
    assert stats.chisquare(list(first.values())).pvalue > 1e-9


@given(LENGTHS, st.integers(0, 9))
def test_by_row_all_but_one_pair_are_whole_or_absent(lengths: list[Any], seed: int) -> None:
    found = prefix_subset(lengths, 2, seed=seed, by_row=True)
    sizes = [max(pair) for pair in lengths]
    part = [0 < len(p) < size for p, size in zip(found, sizes, strict=True)]
    assert sum(part) <= 1


def test_the_same_budget_reaches_fewer_pairs_by_row() -> None:
    lengths = [(60, 40)] * 100
    even, rows = (
        sum(map(bool, prefix_subset(lengths, 2, seed=0, by_row=by_row))) for by_row in (False, True)
    )
    assert rows == math.ceil(200 / 60)
    assert even > 70  # 1 - e^-2 = 86 % of the pairs on average


@pytest.mark.parametrize("multiple", [0.0, -1.0, math.nan, math.inf])
def test_a_multiple_must_make_sense(multiple: float) -> None:
    with pytest.raises(UsageError, match="multiple must draw at least one prefix"):
        prefix_subset(SMALL, multiple, seed=0)


def test_a_response_without_tokens_has_no_prefix() -> None:
    with pytest.raises(UsageError, match="got 2 and 0 in pair 1; clean the preferences first"):
        prefix_subset([(1, 1), (2, 0)], "all", seed=0)
    assert prefix_subset([], "all", seed=0) == []
