"""The laws of what base models propose and draw; those of their rows are in `readers`.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.errors import IncompatibleError
from trimtab.protocols import LanguageModel
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.testing.readers import READING, next_logprobs, read_on
from trimtab.types import Candidates, Prompt, Proposal, Samples, TopK, Vocabulary

ModelLaw: TypeAlias = Callable[[LanguageModel[Any], Fixture], None]


def _attempt(
    lm: LanguageModel[Any], proposal: Proposal, fixture: Fixture, prompts: Sequence[Prompt]
) -> Candidates | None:
    """What a model proposes after prompts; None where it refuses."""
    try:
        return lm.propose(lm.prefill(prompts), proposal, fixture.rng(prompts))
    except IncompatibleError:
        return None


def _top_only(logprobs: Tensor, fixture: Fixture) -> bool:
    """Whether a model tells the law of its top k only."""
    return bool(torch.isneginf(logprobs).sum(-1).eq(fixture.size - fixture.k).all())


def eos_ids_are_tokens(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """EOS ids lie in the vocabulary."""
    odd = sorted(i for i in lm.eos_ids if not 0 <= i < lm.vocab.size)
    hold(not odd, f"EOS ids must be below the vocabulary's size of {lm.vocab.size}", odd)


def encoded_prompts_stay_as_they_are(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """encode(Prompt) is that prompt, and decode returns text."""
    prompt = fixture.prompts[0]
    hold(lm.encode(prompt) == prompt, "encode must leave a Prompt as it is", lm.encode(prompt))
    text = lm.decode(list(prompt.ids))
    hold(isinstance(text, str), "decode must return a string", type(text).__name__)


def laws_are_normalised(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """The vocabulary's probabilities sum to 1; so do the top k's and their tail's."""
    for proposal in (TopK(fixture.k, "mean"), Vocabulary()):
        c = _attempt(lm, proposal, fixture, fixture.prompts)
        if c is None:
            continue
        total = c.logprobs.double().exp().sum(-1)
        total = total + (c.tail.logprob.double().exp() if c.tail else 0)
        hold(bool((c.logprobs <= 1e-6).all()), "log-probabilities must not be above 0", "one is")
        same("probabilities must sum to 1", total, torch.ones(fixture.rows), fixture.tolerance)


def top_k_are_the_likeliest_tokens(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """TopK is the beginning of the sorted vocabulary law; the tail's best token comes next."""
    state, rng = lm.prefill(fixture.prompts), fixture.rng()
    k = min(fixture.k, fixture.size - 1)
    top = lm.propose(state, TopK(k, "mean"), rng)
    must = "the top k must be sorted"
    hold(bool((top.logprobs.diff(dim=-1) <= 0).all()), must, "a likelier token after another")
    ends = torch.isin(top.tokens[:, :, 0].cpu(), torch.tensor(sorted(lm.eos_ids)))
    hold(torch.equal(top.ends.cpu(), ends), "`ends` must mark EOS", top.ends.tolist())
    assert top.tail is not None, "a tail was asked for"
    plain = lm.propose(state, TopK(k), rng)
    hold(plain.tail is None, "a dropped tail must not be given", "one")
    same("both kinds of TopK must agree", plain.logprobs, top.logprobs, 1e-6)
    logprobs = next_logprobs(lm, state, fixture)
    if _top_only(logprobs, fixture):
        return
    want = logprobs.sort(dim=-1, descending=True).values
    same("the top k must be the likeliest tokens", top.logprobs, want[:, :k], 1e-6)
    same("the tail's best token must come next", top.tail.best_logprob, want[:, k], 1e-6)
    tokens = top.tokens[:, :, 0].cpu()
    same("tokens and log-probabilities must match", top.logprobs, logprobs.gather(1, tokens), 1e-6)


def the_tail_holds_what_lies_outside(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """The tail's mass is that of the tokens that are no candidates; where none has a chance, none.

    To a small error of its logarithm, however little it is: a strong guide multiplies it.
    """
    if _attempt(lm, Vocabulary(), fixture, fixture.prompts) is None:
        return
    state = lm.prefill(fixture.prompts)
    logprobs = next_logprobs(lm, state, fixture).double()
    for k in sorted({1, fixture.k, fixture.size // 2, fixture.size - 1}):
        top = lm.propose(state, TopK(k, "mean"), fixture.rng())
        assert top.tail is not None, "a tail was asked for"
        outside = logprobs.scatter(1, top.tokens[:, :, 0].cpu(), -torch.inf).logsumexp(dim=-1)
        must = f"the tail's mass must be what lies outside the {k} candidates"
        same(must, top.tail.logprob, outside, fixture.tolerance)


def propose_leaves_the_state_as_it_was(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Proposing anything changes nothing that is proposed later."""
    state = lm.prefill(fixture.prompts)
    before = next_logprobs(lm, state, fixture).clone()
    for proposal in (TopK(1, "mean"), Samples(3, 4)):
        with suppress(IncompatibleError):
            lm.propose(state, proposal, fixture.rng())
    must = "propose must leave the state as it was"
    same(must, next_logprobs(lm, state, fixture), before, 1e-6)
    token = fixture.random_tokens(fixture.rows, seed=1)
    got = next_logprobs(lm, read_on(lm, state, token), fixture)
    fresh = read_on(lm, lm.prefill(fixture.prompts), token)
    same(must, got, next_logprobs(lm, fresh, fixture), fixture.tolerance)


def the_tail_is_drawn_outside_the_candidates(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """draw_tail gives tokens outside the k, with their log-probability under pi_ref."""
    state = lm.prefill(fixture.prompts)
    logprobs = next_logprobs(lm, state, fixture)
    top = lm.propose(state, TopK(1, "mean"), fixture.rng())
    for seed in range(8):
        token, logprob = lm.draw_tail(state, top, fixture.rng(seed=seed))
        inside = (token[:, None] == top.tokens[:, :, 0]).any()
        hold(not bool(inside), "the tail must be drawn outside the candidates", token.tolist())
        if not _top_only(logprobs, fixture):
            want = logprobs.gather(1, token[:, None].cpu())[:, 0]
            same("a tail token's log-probability must be pi_ref's", logprob, want, 1e-5)


def samples_follow_the_law(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """A sampled block's log-probability is the sum of its tokens'; it ends at its first EOS."""
    blocks = _attempt(lm, Samples(3, 4), fixture, fixture.prompts)
    if blocks is None:
        return
    for i, prompt in enumerate(fixture.prompts):
        for j in range(3):
            tokens = blocks.tokens[i, j, : int(blocks.lengths[i, j])].tolist()
            ends, stopped = bool(blocks.ends[i, j]), tokens[-1] in lm.eos_ids
            hold(stopped == ends, "`ends` must say whether a block ends in EOS", ends)
            full = stopped or len(tokens) == 4
            hold(full, "a block must have its length, or end in EOS", tokens)
            hold(not lm.eos_ids & set(tokens[:-1]), "a block must end at its first EOS", tokens)
            total = _logprob(lm, fixture, prompt, tokens)
            if total != -torch.inf:  # of a model that tells its top k only, it may be unknown
                must = "a block's log-probability must be the sum of its tokens'"
                got = blocks.logprobs[i, j]
                same(must, got, torch.full_like(got, total), 10 * fixture.tolerance)


def _logprob(
    lm: LanguageModel[Any], fixture: Fixture, prompt: Prompt, tokens: Sequence[int]
) -> float:
    """log pi_ref of a response, token by token."""
    state, total = lm.prefill([prompt]), 0.0
    for token in tokens:
        total += float(next_logprobs(lm, state, fixture, rows=1)[0, token])
        state = read_on(lm, state, torch.tensor([[token]], device=fixture.device))
    return total


def samples_do_not_depend_on_other_rows(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """The draws of a row are addressed by its own key."""
    together = _attempt(lm, Samples(2, 3), fixture, fixture.prompts)
    alone = _attempt(lm, Samples(2, 3), fixture, fixture.prompts[:1])
    if together is None or alone is None:
        return
    width = min(together.tokens.shape[-1], alone.tokens.shape[-1])
    got, want = (blocks.tokens[0, :, :width].tolist() for blocks in (together, alone))
    hold(got == want, "a row's blocks must be those it gets alone", f"{got} and {want}")


LAWS_OF_MODELS: tuple[ModelLaw, ...] = (
    eos_ids_are_tokens,
    encoded_prompts_stay_as_they_are,
    laws_are_normalised,
    top_k_are_the_likeliest_tokens,
    the_tail_holds_what_lies_outside,
    propose_leaves_the_state_as_it_was,
    *READING,
    the_tail_is_drawn_outside_the_candidates,
    samples_follow_the_law,
    samples_do_not_depend_on_other_rows,
)
