"""The laws of what base models propose and draw; those of their rows are in `rows`.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from trimtab.errors import IncompatibleError
from trimtab.protocols import LanguageModel
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.testing.rows import READING, next_logprobs
from trimtab.types import Candidates, Prompt, Samples, TopK, Vocabulary

ModelLaw: TypeAlias = Callable[[LanguageModel[Any], Fixture], None]


def attempt(make: Callable[[], Candidates]) -> list[Candidates]:
    """What a model proposes, or nothing where it refuses."""
    try:
        return [make()]
    except IncompatibleError:
        return []


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
    state, rng = lm.prefill(fixture.prompts), fixture.rng(fixture.prompts)
    one = torch.ones(len(fixture.prompts))
    sums = [lm.propose(state, TopK(fixture.k, "mean"), rng)]
    sums += attempt(lambda: lm.propose(state, Vocabulary(), rng))
    for c in sums:
        total = c.logprobs.double().exp().sum(-1)
        total = total + (c.tail.logprob.double().exp() if c.tail else 0)
        hold(bool((c.logprobs <= 1e-6).all()), "log-probabilities must not be above 0", "one is")
        same("probabilities must sum to 1", total, one, fixture.tolerance)


def top_k_are_the_likeliest_tokens(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """TopK is the beginning of the sorted vocabulary law; the tail's best token comes next."""
    state, rng = lm.prefill(fixture.prompts), fixture.rng(fixture.prompts)
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
    logprobs = next_logprobs(lm, state, fixture, len(fixture.prompts))
    if bool(torch.isneginf(logprobs).sum(-1).eq(fixture.size - fixture.k).all()):
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
    rows = len(fixture.prompts)
    state, rng = lm.prefill(fixture.prompts), fixture.rng(fixture.prompts)
    whole = attempt(lambda: lm.propose(state, Vocabulary(), rng))
    if not whole:
        return
    logprobs = next_logprobs(lm, state, fixture, rows).double()
    for k in sorted({1, fixture.k, fixture.size // 2, fixture.size - 1}):
        top = lm.propose(state, TopK(k, "mean"), rng)
        assert top.tail is not None, "a tail was asked for"
        outside = logprobs.scatter(1, top.tokens[:, :, 0].cpu(), -torch.inf).logsumexp(dim=-1)
        must = f"the tail's mass must be what lies outside the {k} candidates"
        same(must, top.tail.logprob, outside, fixture.tolerance)


def propose_leaves_the_state_as_it_was(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Proposing anything changes nothing that is proposed later."""
    state, rng, rows = (
        lm.prefill(fixture.prompts),
        fixture.rng(fixture.prompts),
        len(fixture.prompts),
    )
    before = next_logprobs(lm, state, fixture, rows).clone()
    lm.propose(state, TopK(1, "mean"), rng)
    attempt(lambda: lm.propose(state, Samples(3, 4), rng))
    must = "propose must leave the state as it was"
    same(must, next_logprobs(lm, state, fixture, rows), before, 1e-6)
    token, one = fixture.random_tokens(rows, seed=1), fixture.lengths(rows)
    got = next_logprobs(lm, lm.extend(state, token, one), fixture, rows)
    fresh = lm.extend(lm.prefill(fixture.prompts), token, one)
    same(must, got, next_logprobs(lm, fresh, fixture, rows), fixture.tolerance)


def the_tail_is_drawn_outside_the_candidates(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """draw_tail gives tokens outside the k, with their log-probability under pi_ref."""
    rows = len(fixture.prompts)
    state = lm.prefill(fixture.prompts)
    logprobs = next_logprobs(lm, state, fixture, rows)
    full = not bool(torch.isneginf(logprobs).sum(-1).eq(fixture.size - fixture.k).all())
    top = lm.propose(state, TopK(1, "mean"), fixture.rng(fixture.prompts))
    for seed in range(8):
        token, logprob = lm.draw_tail(state, top, fixture.rng(fixture.prompts, seed))
        inside = (token[:, None] == top.tokens[:, :, 0]).any()
        hold(not bool(inside), "the tail must be drawn outside the candidates", token.tolist())
        if full:
            want = logprobs.gather(1, token[:, None].cpu())[:, 0]
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
        logprobs = next_logprobs(lm, state, fixture, 1)
        if bool(torch.isneginf(logprobs[0, token])):
            return  # a model that tells its top k only
        total += float(logprobs[0, token])
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
