"""The laws of base models, one small function each.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trimtab.protocols import LanguageModel
from trimtab.testing.draws import (
    ModelLaw,
    attempt,
    law_of,
    samples_do_not_depend_on_other_rows,
    samples_follow_the_law,
    the_tail_is_drawn_outside_the_candidates,
)
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.types import Prompt, Samples, TopK, Vocabulary


def _walk(lm: LanguageModel[Any], state: Any, fixture: Fixture, rows: int) -> tuple[Any, Tensor]:
    """Some turns with proposing in between; the tokens that were read, [B, steps]."""
    tokens = []
    for step in range(fixture.steps):
        lm.propose(
            state, TopK(min(fixture.k, fixture.size)), fixture.rng(fixture.prompts[:1] * rows)
        )
        tokens.append(fixture.random_tokens(rows, seed=step))
        state = lm.extend(state, tokens[-1], fixture.lengths(rows))
    return state, torch.cat(tokens, dim=1)


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
    law = law_of(lm, state, fixture, len(fixture.prompts))
    if bool(torch.isneginf(law).sum(-1).eq(fixture.size - fixture.k).all()):
        return
    want = law.sort(dim=-1, descending=True).values
    same("the top k must be the likeliest tokens", top.logprobs, want[:, :k], 1e-6)
    same("the tail's best token must come next", top.tail.best_logprob, want[:, k], 1e-6)
    at = top.tokens[:, :, 0].cpu()
    same("tokens and log-probabilities must match", top.logprobs, law.gather(1, at), 1e-6)


def the_tail_holds_what_lies_outside(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """The tail's mass is that of the tokens that are no candidates; where none has a chance, none.

    To a small error of its logarithm, however little it is: a strong guide multiplies it.
    """
    rows = len(fixture.prompts)
    state, rng = lm.prefill(fixture.prompts), fixture.rng(fixture.prompts)
    whole = attempt(lambda: lm.propose(state, Vocabulary(), rng))
    if not whole:
        return
    law = law_of(lm, state, fixture, rows).double()
    for k in sorted({1, fixture.k, fixture.size // 2, fixture.size - 1}):
        top = lm.propose(state, TopK(k, "mean"), rng)
        assert top.tail is not None, "a tail was asked for"
        outside = law.scatter(1, top.tokens[:, :, 0].cpu(), -torch.inf).logsumexp(dim=-1)
        must = f"the tail's mass must be what lies outside the {k} candidates"
        same(must, top.tail.logprob, outside, fixture.tolerance)


def propose_leaves_the_state_as_it_was(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Proposing anything changes nothing that is proposed later."""
    state, rng, rows = (
        lm.prefill(fixture.prompts),
        fixture.rng(fixture.prompts),
        len(fixture.prompts),
    )
    before = law_of(lm, state, fixture, rows).clone()
    lm.propose(state, TopK(1, "mean"), rng)
    attempt(lambda: lm.propose(state, Samples(3, 4), rng))
    must = "propose must leave the state as it was"
    same(must, law_of(lm, state, fixture, rows), before, 1e-6)
    token, one = fixture.random_tokens(rows, seed=1), fixture.lengths(rows)
    got = law_of(lm, lm.extend(state, token, one), fixture, rows)
    fresh = lm.extend(lm.prefill(fixture.prompts), token, one)
    same(must, got, law_of(lm, fresh, fixture, rows), fixture.tolerance)


def cached_reading_equals_a_longer_prompt(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Turn by turn, all at once, or as a prompt: the same law."""
    rows = len(fixture.prompts)
    state, tokens = _walk(lm, lm.prefill(fixture.prompts), fixture, rows)
    got = law_of(lm, state, fixture, rows)
    whole = [
        Prompt(p.ids + tuple(t)) for p, t in zip(fixture.prompts, tokens.tolist(), strict=True)
    ]
    want = law_of(lm, lm.prefill(whole), fixture, rows)
    same("reading on must equal a prompt that holds the response", got, want, fixture.tolerance)
    at_once = lm.extend(lm.prefill(fixture.prompts), tokens, fixture.lengths(rows, tokens.shape[1]))
    must = "reading turn by turn must equal reading at once"
    same(must, law_of(lm, at_once, fixture, rows), want, fixture.tolerance)


def a_batch_equals_each_row_alone(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """No row sees another, nor its padding, also when rows gain different numbers of tokens."""
    rows = len(fixture.prompts)
    tokens = torch.cat([fixture.random_tokens(rows, seed=i) for i in range(3)], dim=1)
    lengths = torch.arange(rows, device=fixture.device) % 3 + 1
    got = law_of(lm, lm.extend(lm.prefill(fixture.prompts), tokens, lengths), fixture, rows)
    for i, n in enumerate(lengths.tolist()):
        alone = lm.prefill([fixture.prompts[i]])
        alone = lm.extend(alone, tokens[i : i + 1, :n], fixture.lengths(1, n))
        want = law_of(lm, alone, fixture, 1)
        same("a row in a batch must be as alone", got[i : i + 1], want, fixture.tolerance)


def rows_that_gain_nothing_stay_as_they_were(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """`lengths[b]` = 0 leaves row b alone, whatever the others gain; all may gain nothing."""
    rows = len(fixture.prompts)
    state = lm.prefill(fixture.prompts)
    before = law_of(lm, state, fixture, rows).clone()
    tokens = torch.cat([fixture.random_tokens(rows, seed=41 + i) for i in range(2)], dim=1)
    state = lm.extend(state, tokens, fixture.lengths(rows, 0))
    must = "a row that gains no tokens must stay as it was"
    same(must, law_of(lm, state, fixture, rows), before, fixture.tolerance)
    lengths = torch.arange(rows, device=fixture.device).remainder(2) * 2  # 0, 2, 0
    state = lm.extend(state, tokens, lengths)
    after = fixture.random_tokens(rows, seed=43)
    for read in (tokens[:, :0], after):
        if read.shape[1]:
            state = lm.extend(state, read, fixture.lengths(rows))
        got = law_of(lm, state, fixture, rows)
        for i, n in enumerate(lengths.tolist()):
            response = torch.cat([tokens[i, :n], read[i]])[None]
            alone = lm.prefill([fixture.prompts[i]])
            if response.shape[1]:
                alone = lm.extend(alone, response, fixture.lengths(1, response.shape[1]))
            want = law_of(lm, alone, fixture, 1)
            same(must, got[i : i + 1], want, fixture.tolerance)


def select_moves_rows(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Dropped, reordered and forked rows are as they were, and forks are independent."""
    state, rows = lm.prefill(fixture.prompts), len(fixture.prompts)
    before = law_of(lm, state, fixture, rows).clone()
    order = torch.tensor([2, 0, 0])
    state = lm.select(state, order)
    same("selected rows must be as they were", law_of(lm, state, fixture, 3), before[order],
         fixture.tolerance)  # fmt: skip
    tokens = fixture.random_tokens(3, seed=11)
    got = law_of(lm, lm.extend(state, tokens, fixture.lengths(3)), fixture, 3)
    for i, row in enumerate(order.tolist()):
        alone = lm.prefill([fixture.prompts[row]])
        alone = lm.extend(alone, tokens[i : i + 1], fixture.lengths(1))
        want = law_of(lm, alone, fixture, 1)
        same("forks must be independent", got[i : i + 1], want, fixture.tolerance)


def joined_rows_equal_each_alone(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Rows that arrive late are as they would be alone, also after others were dropped."""
    early, tokens = _walk(lm, lm.prefill(fixture.prompts[:1]), fixture, 1)
    joined = lm.join([early, lm.prefill(fixture.prompts[1:])])
    rows = len(fixture.prompts)
    got = law_of(lm, joined, fixture, rows)
    first = lm.prefill(fixture.prompts[:1])
    first = lm.extend(first, tokens, fixture.lengths(1, tokens.shape[1]))
    alone = [law_of(lm, first, fixture, 1)]
    alone.append(law_of(lm, lm.prefill(fixture.prompts[1:]), fixture, rows - 1))
    same("joined rows must be as alone", got, torch.cat(alone), fixture.tolerance)
    last = lm.select(joined, torch.tensor([rows - 1]))
    after = law_of(lm, last, fixture, 1)
    same("a joined row must outlive the others", after, got[-1:], fixture.tolerance)


def rows_come_and_go(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """A row is dropped, the others read on, a new one takes its place: each is as alone."""
    state, before = _walk(lm, lm.prefill(fixture.prompts), fixture, len(fixture.prompts))
    kept = torch.tensor([0, 2])
    state, after = _walk(lm, lm.select(state, kept), fixture, 2)
    state = lm.join([state, lm.prefill(fixture.prompts[1:2])])
    last = fixture.random_tokens(3, seed=31)
    got = law_of(lm, lm.extend(state, last, fixture.lengths(3)), fixture, 3)
    read = [*torch.cat([before[kept.to(before.device)], after, last[:2]], dim=1), last[2]]
    for i, (place, tokens) in enumerate(zip((0, 2, 1), read, strict=True)):
        alone = lm.prefill([fixture.prompts[place]])
        alone = lm.extend(alone, tokens[None], fixture.lengths(1, len(tokens)))
        want = law_of(lm, alone, fixture, 1)
        same("rows must outlive others", got[i : i + 1], want, fixture.tolerance)


def costs_grow_and_prefixes_are_read_once(lm: LanguageModel[Any], fixture: Fixture) -> None:
    """Counters never fall, and no prefix token is read a second time."""
    cost = dict(vars(lm.cost))
    state = lm.prefill(fixture.prompts)
    for _ in range(2):
        state, _ = _walk(lm, state, fixture, len(fixture.prompts))
        now = dict(vars(lm.cost))
        for name, count in now.items():
            hold(count >= cost[name], f"cost.{name} must never fall", f"{cost[name]}, then {count}")
        again = now["recomputed"] - cost["recomputed"]
        hold(fixture.rereads or again == 0, "prefix tokens must not be read again", again)
        cost = now


LAWS_OF_MODELS: tuple[ModelLaw, ...] = (
    eos_ids_are_tokens,
    encoded_prompts_stay_as_they_are,
    laws_are_normalised,
    top_k_are_the_likeliest_tokens,
    the_tail_holds_what_lies_outside,
    propose_leaves_the_state_as_it_was,
    cached_reading_equals_a_longer_prompt,
    a_batch_equals_each_row_alone,
    rows_that_gain_nothing_stay_as_they_were,
    select_moves_rows,
    joined_rows_equal_each_alone,
    rows_come_and_go,
    the_tail_is_drawn_outside_the_candidates,
    samples_follow_the_law,
    samples_do_not_depend_on_other_rows,
    costs_grow_and_prefixes_are_read_once,
)
