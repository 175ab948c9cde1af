"""Laws of all statistics: the order of samples and prompts means nothing, nor does rounding."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trimtab.evaluation.best_of import (
    best_of_n_kl,
    best_of_n_reward,
    best_of_n_scores,
    best_of_n_weights,
)
from trimtab.evaluation.results import COMPUTED, Entry, Sheet
from trimtab.evaluation.statistics import (
    Scores,
    bootstrap,
    estimate,
    holm,
    levels,
    paired_differences,
    ratio,
    sign_flips,
    wilcoxon,
    win_tie_lose,
)
from trimtab.evaluation.sweep import choose, frontier
from trimtab.evaluation.table import Row

STATISTICS: dict[str, Callable[[Scores, Scores], Any]] = {
    "differences": lambda a, b: dict(zip(a, paired_differences(a, b).tolist(), strict=True)),
    "bootstrap": lambda a, b: bootstrap(a, b, resamples=99),
    "wilcoxon": wilcoxon,
    "win, tie, lose": win_tie_lose,
    "win, tie, lose by a margin": lambda a, b: win_tie_lose(a, b, margin=0.3),
    "estimate": lambda a, b: estimate(*_rows(a)),
    "estimate of rows": lambda a, b: estimate(_rows(a)[0]),
    "ratio": lambda a, b: ratio(_rows(a)[0], [2 + x**2 for x in _rows(a)[0]], _rows(a)[1]),
    "best-of-n": lambda a, b: best_of_n_scores(a, 2),
    "best-of-n's mean": lambda a, b: best_of_n_reward(a, 2),
    "best-of-n's KL": lambda a, b: best_of_n_kl(a, 2),
    "sign flips": lambda a, b: sign_flips(paired_differences(a, b).tolist()[:10]),
    "holm": lambda a, b: holm({p: abs(x[0]) / 9 for p, x in a.items()}),
}
"""Of two methods' scores on the same prompts; what they say is compared to the last bit."""

ODD = st.sampled_from([0.1, 0.2, 0.3, 0.7, 1 / 3, 1e-3, 0.0, -0.1, -1.1, 3.0])
SCORES = st.integers(3, 5).flatmap(
    lambda n: st.lists(
        st.tuples(*[st.lists(ODD, min_size=n, max_size=n)] * 2), min_size=2, max_size=9
    )
)


def _rows(scores: Scores) -> tuple[list[float], list[str]]:
    return [x for xs in scores.values() for x in xs], [p for p, xs in scores.items() for _ in xs]


def _two(rows: list[tuple[list[float], list[float]]]) -> tuple[Scores, Scores]:
    return {str(i): a for i, (a, _) in enumerate(rows)}, {
        str(i): b for i, (_, b) in enumerate(rows)
    }


def _shuffled(scores: Scores, by: random.Random) -> Scores:
    prompts = list(scores)
    by.shuffle(prompts)
    return {p: by.sample(list(scores[p]), len(scores[p])) for p in prompts}


@pytest.mark.parametrize("name", STATISTICS)
@settings(deadline=None, max_examples=25)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_prompts_and_samples_means_nothing(
    name: str, rows: list[tuple[list[float], list[float]]], by: random.Random
) -> None:
    statistic, (a, b) = STATISTICS[name], _two(rows)
    mixed: Any
    if name == "sign flips":  # of the first ten prompts: their order is kept
        mixed = {p: by.sample(list(a[p]), len(a[p])) for p in a}
    elif name == "holm":
        mixed = {p: a[p] for p in by.sample(list(a), len(a))}
    else:
        mixed = _shuffled(a, by)
    assert repr_of(statistic(mixed, _shuffled(b, by))) == repr_of(statistic(a, b))


def repr_of(found: Any) -> str:
    """Every figure to its last bit, NaN included; of dictionaries in the order of their keys."""
    return repr(sorted(found.items()) if isinstance(found, dict) else found)


@settings(deadline=None, max_examples=50)
@given(SCORES, st.randoms(use_true_random=False), st.sampled_from([1e-16, 1e-9, 3e-7]))
def test_rounding_is_no_difference(
    rows: list[tuple[list[float], list[float]]], by: random.Random, size: float
) -> None:
    a, b = _two(rows)
    noisy = {p: [x * (1 + size * by.uniform(-1, 1)) for x in xs] for p, xs in a.items()}
    assert win_tie_lose(noisy, a) == win_tie_lose(a, a)
    assert wilcoxon(noisy, a).n == 0
    assert bootstrap(noisy, a).se == 0.0
    plain, other = win_tie_lose(a, b), win_tie_lose(noisy, b)
    assert (plain.wins, plain.ties, plain.losses) == (other.wins, other.ties, other.losses)
    for p in a:
        np.testing.assert_array_equal(best_of_n_weights(a[p], 2), best_of_n_weights(noisy[p], 2))
    assert best_of_n_kl(noisy, 2).mean == best_of_n_kl(a, 2).mean


def test_the_same_scores_in_another_order_tie() -> None:
    for first, second in (([0.1, 0.2, 0.3], [0.3, 0.2, 0.1]), ([0.7, 0.1, 0.2], [0.1, 0.2, 0.7])):
        a, b = ({str(i): scores for i in range(12)} for scores in (first, second))
        assert (wilcoxon(a, b).p, wilcoxon(a, b).n, wilcoxon(a, b).difference) == (1.0, 0, 0.0)
        record = win_tie_lose(a, b)
        assert (record.wins, record.ties, record.losses) == (0, 12, 0)


def test_sizes_that_differ_by_rounding_share_a_rank() -> None:
    # Twice 0.1 up, once 0.1 down, by three ways to compute it: ranks 2, 2, 2 against one by hand.
    a = {"x": [0.3], "y": [0.1], "z": [0.0]}
    b = {"x": [0.2], "y": [0.0], "z": [0.1]}
    assert len({abs(a[p][0] - b[p][0]) for p in a}) == 2
    found = wilcoxon(a, b)
    assert (found.statistic, found.p, "all sign flips" in found.test) == (2.0, 1.0, True)


def test_differences_that_are_real_are_seen_at_any_scale() -> None:
    for scale in (1e-300, 1e-9, 1.0, 1e9):
        a = {str(i): [scale * (1 + 1e-5), scale] for i in range(6)}
        b = {str(i): [scale, scale] for i in range(6)}
        assert (win_tie_lose(a, b).wins, wilcoxon(a, b).n) == (6, 6)


def test_levels_are_apart_by_more_than_rounding() -> None:
    x = np.array([1.0, 1.0 + 1e-9, 2.0, -1.0, 1.0 - 1e-9, 0.0, 1e-17, 1.001])
    assert levels(x).tolist() == [1.0 - 1e-9] * 2 + [2.0, -1.0, 1.0 - 1e-9, 0.0, 0.0, 1.001]
    assert levels(np.array([])).tolist() == []
    assert levels(np.array([1.0, 2.0, 4.0]), [1.0, 0.0, 0.5]).tolist() == [1.0, 1.0, 4.0]


@pytest.mark.parametrize("kind", range(4))
def test_intervals_of_odd_differences_are_finite_and_ordered(kind: int) -> None:
    rng = np.random.default_rng(kind)
    for seed in range(60):
        n = int(rng.integers(2, 8))
        d = [
            rng.integers(0, 2, n).astype(float),
            rng.standard_t(1.2, n),
            np.r_[np.zeros(n - 1), rng.normal()],
            np.exp(rng.normal(0, 4, n)),
        ][kind]
        a, b = {str(i): [float(x)] for i, x in enumerate(d)}, {str(i): [0.0] for i in range(n)}
        got = bootstrap(a, b, resamples=199, seed=seed)
        assert np.isfinite([got.low, got.high, got.se]).all()
        assert d.min() - 1e-9 <= got.low <= got.high <= d.max() + 1e-9


# --- choices -------------------------------------------------------------------------------------


def test_rewards_that_differ_by_rounding_are_chosen_by_their_kl() -> None:
    import trimtab as tt
    from tests.evaluation.test_sweep import TASK, worlds
    from trimtab.evaluation.experiment import items_of
    from trimtab.runs.batches import Condition, Policy
    from trimtab.runs.identity import identify

    lm = worlds.model()
    items = items_of(lm, TASK, "test")
    conditions = [
        Condition("t", "test", Policy(identify(lm), tt.vas(beta)), items) for beta in (1.0, 2.0)
    ]
    rows: list[Row] = [
        {"method": "vas(beta=1)", "guide": None, "reward": 0.3, "kl": 1.0},
        {"method": "vas(beta=2)", "guide": None, "reward": 0.1 + 0.2, "kl": 5.0},
    ]
    ((choice, at),) = choose(conditions, rows, {})
    assert (choice.label, at) == ("vas(beta=1)", 0)
    assert frontier(rows) == ["vas(beta=1)"]


def test_best_of_one_is_as_good_as_the_base_itself() -> None:
    row: Row = {"method": "sampling", "guide": None, "reward": 0.1 + 0.2, "base_tokens": 1.0}
    rows: list[Row] = [{"n": 1, "reward": 0.3}, {"n": 2, "reward": 0.5}]
    entry = Entry(row, COMPUTED, "sampling")
    curve = tuple(Entry(row, COMPUTED, "") for row in rows)
    sheet = Sheet({"baseline": "sampling"}, (entry,), curve)
    found = sheet.best_of_n(entry)
    assert found is not None
    assert found.reaches == 1
    better = replace(entry, row={**row, "reward": 0.31})
    assert sheet.best_of_n(better).reaches == 2
