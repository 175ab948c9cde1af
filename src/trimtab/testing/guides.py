"""The laws of guides, one small function each.

Legend: B rows, K candidates, L tokens of a candidate.
"""

from __future__ import annotations

from typing import Any

import torch

from trimtab.errors import IncompatibleError
from trimtab.protocols import Guide
from trimtab.testing.fixture import Fixture, broken, hold, same
from trimtab.testing.rows import (
    GuideLaw,
    a_batch_equals_each_row_alone,
    forks_are_independent,
    joined_rows_equal_each_alone,
    rows_come_and_go,
    rows_that_gain_nothing_stay_as_they_were,
    select_moves_rows,
    walk,
)
from trimtab.types import Prompt


def scores_are_one_finite_number_per_candidate(guide: Guide[Any], fixture: Fixture) -> None:
    """score returns a finite [B, K]."""
    candidates = fixture.candidates(len(fixture.prompts), seed=1)
    scores = guide.score(guide.prefill(fixture.prompts), candidates)
    must = f"score must return {list(candidates.logprobs.shape)} finite numbers"
    hold(scores.shape == candidates.logprobs.shape, must, f"shape {list(scores.shape)}")
    hold(bool(torch.isfinite(scores).all()), must, "NaN or inf")


def score_leaves_the_state_as_it_was(guide: Guide[Any], fixture: Fixture) -> None:
    """Scoring twice, with other candidates in between, gives the same numbers."""
    state = guide.prefill(fixture.prompts)
    rows = len(fixture.prompts)
    candidates, others = fixture.candidates(rows, seed=1), fixture.candidates(rows, seed=2)
    first = guide.score(state, candidates).clone()
    guide.score(state, others)
    same("score must leave the state as it was", guide.score(state, candidates), first, 1e-6)
    token, one = others.tokens[:, 0], fixture.lengths(rows)
    got = guide.score(guide.extend(state, token, one), candidates)
    fresh = guide.extend(guide.prefill(fixture.prompts), token, one)
    must = "an extended state must not remember which candidates were scored"
    same(must, got, guide.score(fresh, candidates), fixture.tolerance)


def cached_reading_equals_reading_at_once(guide: Guide[Any], fixture: Fixture) -> None:
    """Turn by turn, with scoring in between, or all tokens at once: the same scores."""
    rows = len(fixture.prompts)
    state, tokens = walk(guide, guide.prefill(fixture.prompts), fixture, rows)
    candidates = fixture.candidates(rows, seed=50)
    got = guide.score(state, candidates)
    fresh = guide.prefill(fixture.prompts)
    fresh = guide.extend(fresh, tokens, fixture.lengths(rows, tokens.shape[1]))
    must = "reading turn by turn must equal reading at once"
    same(must, got, guide.score(fresh, candidates), fixture.tolerance)


def cached_reading_equals_a_longer_prompt(guide: Guide[Any], fixture: Fixture) -> None:
    """Guides that read ids see no seam between prompt and response."""
    if fixture.seam:
        return
    rows = len(fixture.prompts)
    state, tokens = walk(guide, guide.prefill(fixture.prompts), fixture, rows)
    whole = [
        Prompt(p.ids + tuple(t)) for p, t in zip(fixture.prompts, tokens.tolist(), strict=True)
    ]
    candidates = fixture.candidates(rows, seed=50)
    got = guide.score(state, candidates)
    must = "reading on must equal a prompt that holds the response"
    same(must, got, guide.score(guide.prefill(whole), candidates), fixture.tolerance)


def ragged_extensions_read_only_their_tokens(guide: Guide[Any], fixture: Fixture) -> None:
    """`lengths[b]` tokens are read; what stands behind them is not."""
    rows = len(fixture.prompts)
    tokens = torch.cat([fixture.random_tokens(rows, seed=i) for i in range(3)], dim=1)
    lengths = torch.arange(rows, device=fixture.device) % 3 + 1
    candidates = fixture.candidates(rows, seed=4)
    got = guide.score(guide.extend(guide.prefill(fixture.prompts), tokens, lengths), candidates)
    for i, n in enumerate(lengths.tolist()):
        alone = guide.extend(guide.prefill(fixture.prompts[i : i + 1]), tokens[i : i + 1, :n],
                             fixture.lengths(1, n))  # fmt: skip
        want = guide.score(alone, candidates.select(torch.tensor([i])))
        same("a ragged extend must equal each row's own", got[i : i + 1], want, fixture.tolerance)


def scores_follow_permuted_candidates(guide: Guide[Any], fixture: Fixture) -> None:
    """The order of candidates decides nothing."""
    state = guide.prefill(fixture.prompts)
    candidates = fixture.candidates(len(fixture.prompts), seed=8)
    before = guide.score(state, candidates).clone()
    order = torch.arange(candidates.shape[1] - 1, -1, -1)
    turned = fixture.candidates_of(
        candidates.tokens[:, order.to(fixture.device)].cpu(), candidates.lengths[:, order].cpu()
    )
    got = guide.score(state, turned)
    must = "permuted candidates must have permuted scores"
    same(must, got, before[:, order], fixture.tolerance)


def long_candidates_equal_reading_their_beginning(guide: Guide[Any], fixture: Fixture) -> None:
    """score(s, ab) = score(sa, b), unless the guide says that it scores single tokens."""
    rows = len(fixture.prompts)
    heads = fixture.random_tokens(rows, seed=21)
    tails = fixture.candidates(rows, seed=22, length=2)
    k = tails.shape[1]
    tokens = torch.cat([heads[:, None].expand(-1, k, -1), tails.tokens], dim=2).cpu()
    whole = fixture.candidates_of(tokens, tails.lengths.cpu() + 1)
    try:
        got = guide.score(guide.prefill(fixture.prompts), whole)
        state = guide.extend(guide.prefill(fixture.prompts), heads, fixture.lengths(rows))
        want = guide.score(state, tails)
    except IncompatibleError:
        return
    must = "a candidate of several tokens must score as when its first was read before"
    same(must, got, want, fixture.tolerance)


def costs_grow_and_prefixes_are_read_once(guide: Guide[Any], fixture: Fixture) -> None:
    """Counters never fall, and no prefix token is read a second time."""
    rows, cost = len(fixture.prompts), dict(vars(guide.cost))
    state = guide.prefill(fixture.prompts)
    for step in range(fixture.steps):
        candidates = fixture.candidates(rows, seed=step)
        guide.score(state, candidates)
        state = guide.extend(state, candidates.tokens[:, step % 2], fixture.lengths(rows))
        now = dict(vars(guide.cost))
        for name, count in now.items():
            hold(count >= cost[name], f"cost.{name} must never fall", f"{cost[name]}, then {count}")
        if not fixture.rereads and now["recomputed"] != cost["recomputed"]:
            broken("prefix tokens must not be read again", f"{now['recomputed']} recomputed")
        cost = now


LAWS_OF_GUIDES: tuple[GuideLaw, ...] = (
    scores_are_one_finite_number_per_candidate,
    score_leaves_the_state_as_it_was,
    cached_reading_equals_reading_at_once,
    cached_reading_equals_a_longer_prompt,
    ragged_extensions_read_only_their_tokens,
    a_batch_equals_each_row_alone,
    rows_that_gain_nothing_stay_as_they_were,
    select_moves_rows,
    forks_are_independent,
    joined_rows_equal_each_alone,
    rows_come_and_go,
    scores_follow_permuted_candidates,
    long_candidates_equal_reading_their_beginning,
    costs_grow_and_prefixes_are_read_once,
)
