"""The laws of a guide's rows: batches, drops, forks and late arrivals change no row's score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.protocols import Guide
from trimtab.testing.fixture import Fixture, same

GuideLaw: TypeAlias = Callable[[Guide[Any], Fixture], None]


def walk(guide: Guide[Any], state: Any, fixture: Fixture, rows: int) -> tuple[Any, Tensor]:
    """Some turns with scoring: candidates and other tokens are chosen; the tokens, [B, steps]."""
    chosen = []
    for step in range(fixture.steps):
        candidates = fixture.candidates(rows, seed=step)
        guide.score(state, candidates)
        token = candidates.tokens[:, step % candidates.shape[1]]
        if step % 3 == 2:  # one row takes a token from the tail
            token = torch.cat([fixture.random_tokens(1, seed=90 + step), token[1:]])
        state = guide.extend(state, token, fixture.lengths(rows))
        chosen.append(token)
    return state, torch.cat(chosen, dim=1)


def a_batch_equals_each_row_alone(guide: Guide[Any], fixture: Fixture) -> None:
    """No row sees another, nor its padding."""
    rows = len(fixture.prompts)
    state, tokens = walk(guide, guide.prefill(fixture.prompts), fixture, rows)
    candidates = fixture.candidates(rows, seed=3)
    got = guide.score(state, candidates)
    for i, prompt in enumerate(fixture.prompts):
        alone = guide.prefill([prompt])
        alone = guide.extend(alone, tokens[i : i + 1], fixture.lengths(1, tokens.shape[1]))
        want = guide.score(alone, candidates.select(torch.tensor([i])))
        same("a row in a batch must score as alone", got[i : i + 1], want, fixture.tolerance)


def rows_that_gain_nothing_stay_as_they_were(guide: Guide[Any], fixture: Fixture) -> None:
    """`lengths[b]` = 0 leaves row b alone, whatever the others gain; all may gain nothing.

    Once with tokens that were just scored and once with two that were not; what stands in the place
    of a row's tokens is read by nobody.
    """
    rows = len(fixture.prompts)
    scored = fixture.candidates(rows, seed=40)
    two = torch.cat([fixture.random_tokens(rows, seed=41 + i) for i in range(2)], dim=1)
    candidates = fixture.candidates(rows, seed=43)
    gains = torch.arange(rows, device=fixture.device) % 2  # 0, 1, 0
    for tokens in (scored.tokens[:, 1], two):
        state = guide.prefill(fixture.prompts)
        guide.score(state, scored)
        state = guide.extend(state, tokens, torch.zeros_like(gains))
        lengths = gains * tokens.shape[1]
        state = guide.extend(state, tokens, lengths)
        got = guide.score(state, candidates)
        for i, n in enumerate(lengths.tolist()):
            alone = guide.prefill([fixture.prompts[i]])
            if n:
                alone = guide.extend(alone, tokens[i : i + 1, :n], fixture.lengths(1, n))
            want = guide.score(alone, candidates.select(torch.tensor([i])))
            must = "a row that gains no tokens must stay as it was"
            same(must, got[i : i + 1], want, fixture.tolerance)


def select_moves_rows(guide: Guide[Any], fixture: Fixture) -> None:
    """Dropped, reordered and forked rows score as they did."""
    state = guide.prefill(fixture.prompts)
    candidates = fixture.candidates(len(fixture.prompts), seed=6)
    before = guide.score(state, candidates).clone()
    rows = torch.tensor([2, 0, 0])
    moved = guide.select(state, rows)
    got = guide.score(moved, candidates.select(rows))
    same("selected rows must score as they did", got, before[rows.to(before.device)],
         fixture.tolerance)  # fmt: skip


def forks_are_independent(guide: Guide[Any], fixture: Fixture) -> None:
    """What one copy of a row reads, the other does not."""
    state = guide.select(guide.prefill(fixture.prompts), torch.tensor([1, 1, 1]))
    tokens = fixture.random_tokens(3, seed=11)
    state = guide.extend(state, tokens, fixture.lengths(3))
    candidates = fixture.candidates(3, seed=12)
    got = guide.score(state, candidates)
    for i in range(3):
        alone = guide.prefill([fixture.prompts[1]])
        alone = guide.extend(alone, tokens[i : i + 1], fixture.lengths(1))
        want = guide.score(alone, candidates.select(torch.tensor([i])))
        same("forks must be independent", got[i : i + 1], want, fixture.tolerance)


def joined_rows_equal_each_alone(guide: Guide[Any], fixture: Fixture) -> None:
    """Rows that arrive late score as they would alone, also after rows were dropped again."""
    early = guide.prefill(fixture.prompts[:1])
    early, tokens = walk(guide, early, fixture, 1)
    joined = guide.join([early, guide.prefill(fixture.prompts[1:])])
    rows = len(fixture.prompts)
    candidates = fixture.candidates(rows, seed=7)
    got = guide.score(joined, candidates)
    first = guide.prefill(fixture.prompts[:1])
    first = guide.extend(first, tokens, fixture.lengths(1, tokens.shape[1]))
    first_alone = guide.score(first, candidates.select(torch.tensor([0])))
    others = guide.prefill(fixture.prompts[1:])
    rest = guide.score(others, candidates.select(torch.arange(1, rows)))
    want = torch.cat([first_alone, rest])
    same("joined rows must score as alone", got, want, fixture.tolerance)
    last = guide.select(joined, torch.tensor([rows - 1]))
    after = guide.score(last, candidates.select(torch.tensor([rows - 1])))
    same("a joined row must outlive the others", after, want[-1:], fixture.tolerance)


def rows_come_and_go(guide: Guide[Any], fixture: Fixture) -> None:
    """A row is dropped, the others read on, a new one takes its place: each scores as alone."""
    prompts = [fixture.prompts[0], fixture.prompts[2]]
    state, before = walk(guide, guide.prefill(fixture.prompts), fixture, len(fixture.prompts))
    kept = torch.tensor([0, 2])
    state, after = walk(guide, guide.select(state, kept), fixture, 2)
    state = guide.join([state, guide.prefill(fixture.prompts[1:2])])
    last = fixture.random_tokens(3, seed=31)
    state = guide.extend(state, last, fixture.lengths(3))
    candidates = fixture.candidates(3, seed=32)
    got = guide.score(state, candidates)
    read = [*torch.cat([before[kept.to(before.device)], after, last[:2]], dim=1), last[2]]
    for i, (prompt, tokens) in enumerate(zip([*prompts, fixture.prompts[1]], read, strict=True)):
        alone = guide.prefill([prompt])
        alone = guide.extend(alone, tokens[None], fixture.lengths(1, len(tokens)))
        want = guide.score(alone, candidates.select(torch.tensor([i])))
        same("rows must outlive others", got[i : i + 1], want, fixture.tolerance)
