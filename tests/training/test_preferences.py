"""Cleaning, pairs by a reward, and splits: what is left, what went, and why."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.training.preferences_world import pair, scored
from trimtab.errors import DataError, UsageError
from trimtab.training.data import _place, split
from trimtab.training.examples import KeptCounts
from trimtab.training.preferences import clean, pairs_of
from trimtab.types import Group, Ledger, Response

# --- clean ---------------------------------------------------------------------------------------


def test_every_reason_is_counted_once() -> None:
    good, other = pair("7 8", "9"), pair("7 8", "9", prompt=(6, 5))
    lot = [
        good,
        pair("7", "7"),
        pair("", "9"),
        pair("9", " "),
        pair("7 8 9 7 8 9 7", "9"),
        other,
        good,
        pair("9 9", "8 8"),
        pair("8 8", "9 9"),
        pair("9 9", "8 8"),
    ]
    kept, dropped = clean(lot, max_tokens=9)
    assert kept == (good, other)
    assert str(dropped) == (
        "2 of 10 pairs; left out: 1 identical, 2 empty, 1 longer than 9 tokens, 1 repeated, "
        "3 contradictory"
    )
    _, dropped = clean(lot, max_tokens=None)
    assert dropped.kept == 3
    assert not [reason for reason in dropped.left_out if reason.startswith("longer")]


@pytest.mark.parametrize(("limit", "fits"), [(4, True), (3, False)])
def test_a_limit_counts_the_prompt_and_the_longer_response(limit: int, fits: bool) -> None:
    groups = [pair("7", "9"), pair("7", "8", prompt=(5,))]
    assert (len(clean(groups, max_tokens=limit)[0]) == 2) is fits
    longer = [pair("7", "9 9"), groups[1]]
    assert len(clean(longer, max_tokens=4)[0]) == 1


def test_a_response_may_be_too_short() -> None:
    kept, dropped = clean([pair("7 7", "9"), pair("7 7", "9 9")], min_tokens=3)
    assert len(kept) == 1
    assert str(dropped) == "1 of 2 pairs; left out: 1 shorter than 3 tokens"


WORD = st.sampled_from(["", "7", "8", "7 8", "8 7 7"])
LOTS = st.lists(st.tuples(WORD, WORD, st.sampled_from([(5,), (5, 6)])), max_size=12)


@given(LOTS)
def test_what_is_left_is_clean(lot: list[Any]) -> None:
    groups = [pair("7 7 7", "8 8 8"), *(pair(*parts) for parts in lot)]
    kept, dropped = clean(groups, max_tokens=6)
    assert dropped.read == len(groups)
    assert dropped.kept == len(kept)
    keys = [(g.prompt.ids, g.responses[0].tokens, g.responses[1].tokens) for g in kept]
    assert len(set(keys)) == len(keys)
    assert not {(p, b, a) for p, a, b in keys} & set(keys)
    assert clean(kept, max_tokens=6) == (kept, KeptCounts("pairs", len(kept)))


def test_nothing_left_is_an_error() -> None:
    with pytest.raises(DataError, match="0 of 1 pairs; left out: 1 identical"):
        clean([pair("7", "7")])
    with pytest.raises(DataError, match="none to begin with"):
        clean([])


def test_cleaning_wants_pairs_and_sane_limits() -> None:
    with pytest.raises(UsageError, match="a group of two responses; got 3 .* with pairs_of"):
        clean([scored(1, 2, 3)])
    for limits in ({"min_tokens": 0}, {"max_tokens": 4, "min_tokens": 5}):
        with pytest.raises(UsageError, match="min_tokens must be at least 1"):
            clean([pair("7", "8")], **limits)


# --- counts --------------------------------------------------------------------------------------


def test_stages_of_one_walk_are_one() -> None:
    """Two files that were read, then cleaned."""
    read = KeptCounts("pairs", 9, {"not its parts": 1}) + KeptCounts("pairs", 1, {"no prompt": 2})
    cleaned = KeptCounts("pairs", 6, {"repeated": 1, "longer than 8 tokens": 3, "tied": 0})
    both = cleaned.after(read.left_out)
    assert str(both) == (
        "6 of 13 pairs; left out: 1 not its parts, 2 no prompt, 1 repeated, 3 longer than 8 tokens"
    )
    assert both.as_dict() == {
        "what": "pairs", "read": 13, "kept": 6,
        "left_out": {"not its parts": 1, "no prompt": 2, "repeated": 1, "longer than 8 tokens": 3},
    }  # fmt: skip
    assert str(KeptCounts("pairs", 3, {"tied": 0})) == "all 3 pairs"


# --- pairs ---------------------------------------------------------------------------------------

SCORES = st.lists(st.none() | st.integers(-3, 3), min_size=1, max_size=6)


@given(
    st.lists(SCORES, max_size=4),
    st.sampled_from([0.0, 0.5, 1.0, 2.5]),
    st.none() | st.integers(1, 4),
    st.sampled_from(["random", "extremes"]),
)
def test_pairs_have_the_margin(
    lot: list[Any], margin: float, per_group: int | None, strategy: Any
) -> None:
    certain = scored(-9.0, 9.0, prompt=(4,))
    groups = [certain, *(scored(*s, prompt=(5, i)) for i, s in enumerate(lot))]
    made, dropped = pairs_of(
        groups, "joy", margin=margin, per_group=per_group, strategy=strategy, seed=3
    )
    assert dropped.read == len(groups)
    assert dropped.kept == len({group.prompt for group in made})
    every = 0
    for group in groups:
        mine = [pair for pair in made if pair.prompt == group.prompt]
        by = {r.tokens: r.rewards.get("joy", math.nan) for r in group.responses}
        for found in mine:
            chosen, rejected = found.responses
            assert by[chosen.tokens] - by[rejected.tokens] > margin
            assert (chosen.rewards, rejected.rewards) == ({"preference": 1.0}, {"preference": 0.0})
        there = sum(a - b > margin for a in by.values() for b in by.values())
        assert len(mine) == len(set(map(repr, mine))) == min(there, per_group or there)
        every += len(mine)
    assert every == len(made)


def test_a_draw_does_not_depend_on_other_groups() -> None:
    lot = [scored(*range(5), prompt=(i,)) for i in range(20)]
    alone = [pairs_of([group], "joy", seed=1)[0][0] for group in lot]
    assert list(pairs_of(lot[::-1], "joy", seed=1)[0]) == alone[::-1]
    assert list(pairs_of(lot, "joy", seed=2)[0]) != alone


def test_a_draw_is_even() -> None:
    """Chi-squared; the odds of a false alarm are 1e-9, and the draws are always the same."""
    groups = [scored(1, 2, 3, prompt=(i,)) for i in range(3000)]
    made, _ = pairs_of(groups, "joy")
    found = Counter(tuple(r.tokens[0] for r in group.responses) for group in made)
    assert set(found) == {(11, 10), (12, 10), (12, 11)}
    assert stats.chisquare(list(found.values())).pvalue > 1e-9


def test_extremes_are_the_best_against_the_worst() -> None:
    (group,), _ = pairs_of([scored(2, 5, 1, 4)], "joy", strategy="extremes")
    assert [r.tokens[0] for r in group.responses] == [11, 12]
    two, _ = pairs_of([scored(2, 5, 1, 4)], "joy", strategy="extremes", per_group=2)
    assert [[r.tokens[0] for r in g.responses] for g in two] == [[11, 10], [11, 12]]


LEDGER = Ledger(lengths=(1, 1), texts=("w", ""), logprobs=(-0.5, -0.1))


def test_a_response_of_ours_keeps_what_is_known_of_it() -> None:
    ours = tuple(Response((10 + i, 0), "w", "eos", LEDGER, {"joy": float(i)}) for i in range(2))
    (group,), _ = pairs_of([replace(scored(), responses=ours, prefix=(7,))], "joy")
    assert group.prefix == (7,)
    assert group.responses[0] == replace(ours[1], rewards={"preference": 1.0})


def test_groups_without_a_pair_are_counted() -> None:
    lot = [scored(1, 2, prompt=(1,)), scored(1, 1, 1), scored(1, None), scored(None, math.nan)]
    made, dropped = pairs_of(lot, "joy")
    assert len(made) == 1
    assert str(dropped) == ("1 of 4 groups; left out: 1 tied, 2 with fewer than two rewards")


@pytest.mark.parametrize(
    ("group", "reward", "margin", "says"),
    [
        (scored(1, 1), "joy", 0.0, "got 2 responses with 1 everywhere"),
        (scored(1, 2), "joy", 1.0, "got 2 responses with 1 to 2, alike for each prompt"),
        (scored(1, 2), "joi", 0.0, "got no response with it; there are: joy"),
        (scored(), "joy", 0.0, "there are: no rewards"),
    ],
)
def test_data_of_one_class_teach_nothing(
    group: Group, reward: str, margin: float, says: str
) -> None:
    with pytest.raises(DataError, match=says):
        pairs_of([group], reward, margin=margin)


@pytest.mark.parametrize("bad", [{"margin": -1.0}, {"margin": math.nan}, {"per_group": 0}])
def test_pairs_want_sane_limits(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="margin must be 0 or more"):
        pairs_of([scored(1, 2)], "joy", **bad)


# --- split ---------------------------------------------------------------------------------------

TOPICS = st.lists(st.text(max_size=2), min_size=1, max_size=30)


@given(TOPICS, st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 3))
def test_a_split_never_shares_a_topic(topics: list[str], share: float, seed: int) -> None:
    groups = [pair("7", "8", topic=topic) for topic in topics]
    if len(set(topics)) < 2:
        return
    train, validation = split(groups, share, seed=seed)
    assert train
    assert validation
    assert not {g.topic for g in train} & {g.topic for g in validation}
    assert sorted(g.topic for g in train + validation) == sorted(topics)
    if {_place(t, seed) < share for t in topics} != {True, False}:
        return  # a side was filled up
    more = [*groups, pair("7", "8", topic="a new topic")]
    assert set(topics) & {g.topic for g in split(more, share, seed=seed)[0]} == {
        g.topic for g in train
    }


def test_the_share_is_met_on_average() -> None:
    groups = [pair("7", "8", topic=str(i)) for i in range(2000)]
    sizes = [len(split(groups, 0.1, seed=seed)[1]) for seed in range(3)]
    assert all(120 < size < 280 for size in sizes)  # six standard deviations and more
    assert len(set(sizes)) > 1


def test_an_empty_side_is_an_error() -> None:
    with pytest.raises(DataError, match="got one topic; bring groups of more topics"):
        split([pair("7", "8"), pair("8", "7")])
    for share in (0.0, 1.0, math.nan):
        with pytest.raises(UsageError, match="must be between 0 and 1"):
            split([pair("7", "8")], share)
