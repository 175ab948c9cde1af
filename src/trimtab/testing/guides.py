"""The laws of guides' scores, one small function each; those of their rows are in `rows`.

Legend: B rows, K candidates, L tokens of a candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from trimtab.errors import IncompatibleError
from trimtab.protocols import Guide
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.testing.rows import READING

GuideLaw: TypeAlias = Callable[[Guide[Any], Fixture], None]


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


LAWS_OF_GUIDES: tuple[GuideLaw, ...] = (
    scores_are_one_finite_number_per_candidate,
    score_leaves_the_state_as_it_was,
    *READING,
    scores_follow_permuted_candidates,
    long_candidates_equal_reading_their_beginning,
)
