"""The laws of what base models draw, and how the laws of models ask for a law.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.errors import IncompatibleError
from trimtab.protocols import LanguageModel
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.types import Candidates, Prompt, Samples, TopK, Vocabulary

ModelLaw: TypeAlias = Callable[[LanguageModel[Any], Fixture], None]


def law_of(lm: LanguageModel[Any], state: Any, fixture: Fixture, rows: int) -> Tensor:
    """What the model says of the next token: its whole law, or its top k by id if it has no more.

    Returns [B, V]; NaN-free, with -inf where nothing was said.
    """
    rng = fixture.rng(fixture.prompts[:1] * rows)
    try:
        candidates = lm.propose(state, Vocabulary(), rng)
    except IncompatibleError:
        candidates = lm.propose(state, TopK(fixture.k), rng)
    law = torch.full((rows, fixture.size), -torch.inf, dtype=candidates.logprobs.dtype)
    return law.scatter(1, candidates.tokens[:, :, 0].cpu(), candidates.logprobs.cpu())


def attempt(make: Callable[[], Candidates]) -> list[Candidates]:
    """What a model proposes, or nothing where it refuses."""
    try:
        return [make()]
    except IncompatibleError:
        return []


def the_tail_is_drawn_outside_the_candidates(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """draw_tail gives tokens outside the k, with their log-probability under pi_ref."""
    rows = len(fixture.prompts)
    state = lm.prefill(fixture.prompts)
    law = law_of(lm, state, fixture, rows)
    full = not bool(torch.isneginf(law).sum(-1).eq(fixture.size - fixture.k).all())
    top = lm.propose(state, TopK(1, "mean"), fixture.rng(fixture.prompts))
    for seed in range(8):
        token, logprob = lm.draw_tail(state, top, fixture.rng(fixture.prompts, seed))
        inside = (token[:, None] == top.tokens[:, :, 0]).any()
        hold(not bool(inside), "the tail must be drawn outside the candidates", token.tolist())
        if full:
            want = law.gather(1, token[:, None].cpu())[:, 0]
            same("a tail token's log-probability must be pi_ref's", logprob, want, 1e-5)


def samples_follow_the_law(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """A sampled block's log-probability is the sum of its tokens'; it ends at its first EOS."""
    rng, length = fixture.rng(fixture.prompts), 4
    found = attempt(lambda: lm.propose(lm.prefill(fixture.prompts), Samples(3, length), rng))
    for blocks in found:
        for i, prompt in enumerate(fixture.prompts):
            for j in range(3):
                n = int(blocks.lengths[i, j])
                _check_block(lm, fixture, prompt, blocks.tokens[i, j, :n].tolist(), length,
                             float(blocks.logprobs[i, j]), bool(blocks.ends[i, j]))  # fmt: skip


def _check_block(
    lm: LanguageModel[Any],
    fixture: Fixture,
    prompt: Prompt,
    tokens: Sequence[int],
    length: int,
    logprob: float,
    ends: bool,
) -> None:
    stopped = tokens[-1] in lm.eos_ids
    hold(stopped == ends, "`ends` must say whether a block ends in EOS", ends)
    hold(stopped or len(tokens) == length, "a block must have its length, or end in EOS", tokens)
    hold(not lm.eos_ids & set(tokens[:-1]), "a block must end at its first EOS", tokens)
    state, total = lm.prefill([prompt]), 0.0
    for token in tokens:
        law = law_of(lm, state, fixture, 1)
        if bool(torch.isneginf(law[0, token])):
            return  # a model that tells its top k only
        total += float(law[0, token])
        state = lm.extend(state, torch.tensor([[token]], device=fixture.device), fixture.lengths(1))
    must = "a block's log-probability must be the sum of its tokens'"
    same(must, torch.tensor(logprob), torch.tensor(total), 10 * fixture.tolerance)


def samples_do_not_depend_on_other_rows(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """The draws of a row are addressed by its own key."""
    rng = fixture.rng(fixture.prompts)
    found = attempt(lambda: lm.propose(lm.prefill(fixture.prompts), Samples(2, 3), rng))
    for together in found:
        alone = lm.propose(
            lm.prefill(fixture.prompts[:1]), Samples(2, 3), fixture.rng(fixture.prompts[:1])
        )
        got = [
            together.take(torch.tensor([j] * len(fixture.prompts)))[0][0].tolist() for j in (0, 1)
        ]
        want = [alone.take(torch.tensor([j]))[0][0].tolist() for j in (0, 1)]
        width = min(len(got[0]), len(want[0]))
        equal = [g[:width] for g in got] == [w[:width] for w in want]
        hold(equal, "a row's blocks must be those it gets alone", f"{got} and {want}")
