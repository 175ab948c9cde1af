"""The laws of base models, one small function each.

Legend: B rows, K candidates, L tokens of a candidate, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from trimtab.protocols import LanguageModel
from trimtab.testing.bench import Bench, hold, same
from trimtab.testing.draws import (
    ModelLaw,
    attempt,
    law_of,
    samples_do_not_depend_on_other_rows,
    samples_follow_the_law,
    the_tail_is_drawn_outside_the_candidates,
)
from trimtab.types import Prompt, Samples, TopK, Vocabulary


def _walk(lm: LanguageModel[Any], state: Any, bench: Bench, rows: int) -> tuple[Any, Tensor]:
    """Some turns with proposing in between; the tokens that were read, [B, steps]."""
    tokens = []
    for step in range(bench.steps):
        lm.propose(state, TopK(min(bench.k, bench.size)), bench.rng(bench.prompts[:1] * rows))
        tokens.append(bench.random_tokens(rows, seed=step))
        state = lm.extend(state, tokens[-1], bench.lengths(rows))
    return state, torch.cat(tokens, dim=1)


def eos_ids_are_tokens(lm: LanguageModel[Any], bench: Bench) -> None:
    """EOS ids lie in the vocabulary."""
    odd = sorted(i for i in lm.eos_ids if not 0 <= i < lm.vocab.size)
    hold(not odd, f"EOS ids must be below the vocabulary's size of {lm.vocab.size}", odd)


def encoded_prompts_stay_as_they_are(lm: LanguageModel[Any], bench: Bench) -> None:
    """encode(Prompt) is that prompt, and decode returns text."""
    prompt = bench.prompts[0]
    hold(lm.encode(prompt) == prompt, "encode must leave a Prompt as it is", lm.encode(prompt))
    text = lm.decode(list(prompt.ids))
    hold(isinstance(text, str), "decode must return a string", type(text).__name__)


def laws_are_normalised(lm: LanguageModel[Any], bench: Bench) -> None:
    """The vocabulary's probabilities sum to 1; so do the top k's and their tail's."""
    state, rng = lm.prefill(bench.prompts), bench.rng(bench.prompts)
    one = torch.ones(len(bench.prompts))
    sums = [lm.propose(state, TopK(bench.k, "mean"), rng)]
    sums += attempt(lambda: lm.propose(state, Vocabulary(), rng))
    for c in sums:
        total = c.logprobs.double().exp().sum(-1)
        total = total + (c.tail.logprob.double().exp() if c.tail else 0)
        hold(bool((c.logprobs <= 1e-6).all()), "log-probabilities must not be above 0", "one is")
        same("probabilities must sum to 1", total, one, bench.tolerance)


def top_k_are_the_likeliest_tokens(lm: LanguageModel[Any], bench: Bench) -> None:
    """TopK is the beginning of the sorted vocabulary law; the tail's best token comes next."""
    state, rng = lm.prefill(bench.prompts), bench.rng(bench.prompts)
    k = min(bench.k, bench.size - 1)
    top = lm.propose(state, TopK(k, "mean"), rng)
    must = "the top k must be sorted"
    hold(bool((top.logprobs.diff(dim=-1) <= 0).all()), must, "a likelier token after another")
    ends = torch.isin(top.tokens[:, :, 0].cpu(), torch.tensor(sorted(lm.eos_ids)))
    hold(torch.equal(top.ends.cpu(), ends), "`ends` must mark EOS", top.ends.tolist())
    assert top.tail is not None, "a tail was asked for"
    plain = lm.propose(state, TopK(k), rng)
    hold(plain.tail is None, "a dropped tail must not be given", "one")
    same("both kinds of TopK must agree", plain.logprobs, top.logprobs, 1e-6)
    law = law_of(lm, state, bench, len(bench.prompts))
    if bool(torch.isneginf(law).sum(-1).eq(bench.size - bench.k).all()):
        return
    want = law.sort(dim=-1, descending=True).values
    same("the top k must be the likeliest tokens", top.logprobs, want[:, :k], 1e-6)
    same("the tail's best token must come next", top.tail.best_logprob, want[:, k], 1e-6)
    at = top.tokens[:, :, 0].cpu()
    same("tokens and log-probabilities must match", top.logprobs, law.gather(1, at), 1e-6)


def the_tail_holds_what_lies_outside(lm: LanguageModel[Any], bench: Bench) -> None:
    """The tail's mass is that of the tokens that are no candidates; where none has a chance, none.

    To a small error of its logarithm, however little it is: a strong guide multiplies it.
    """
    rows = len(bench.prompts)
    state, rng = lm.prefill(bench.prompts), bench.rng(bench.prompts)
    whole = attempt(lambda: lm.propose(state, Vocabulary(), rng))
    if not whole:
        return
    law = law_of(lm, state, bench, rows).double()
    for k in sorted({1, bench.k, bench.size // 2, bench.size - 1}):
        top = lm.propose(state, TopK(k, "mean"), rng)
        assert top.tail is not None, "a tail was asked for"
        outside = law.scatter(1, top.tokens[:, :, 0].cpu(), -torch.inf).logsumexp(dim=-1)
        must = f"the tail's mass must be what lies outside the {k} candidates"
        same(must, top.tail.logprob, outside, bench.tolerance)


def propose_leaves_the_state_as_it_was(lm: LanguageModel[Any], bench: Bench) -> None:
    """Proposing anything changes nothing that is proposed later."""
    state, rng, rows = lm.prefill(bench.prompts), bench.rng(bench.prompts), len(bench.prompts)
    before = law_of(lm, state, bench, rows).clone()
    lm.propose(state, TopK(1, "mean"), rng)
    attempt(lambda: lm.propose(state, Samples(3, 4), rng))
    must = "propose must leave the state as it was"
    same(must, law_of(lm, state, bench, rows), before, 1e-6)
    token, one = bench.random_tokens(rows, seed=1), bench.lengths(rows)
    got = law_of(lm, lm.extend(state, token, one), bench, rows)
    fresh = lm.extend(lm.prefill(bench.prompts), token, one)
    same(must, got, law_of(lm, fresh, bench, rows), bench.tolerance)


def cached_reading_equals_a_longer_prompt(lm: LanguageModel[Any], bench: Bench) -> None:
    """Turn by turn, all at once, or as a prompt: the same law."""
    rows = len(bench.prompts)
    state, tokens = _walk(lm, lm.prefill(bench.prompts), bench, rows)
    got = law_of(lm, state, bench, rows)
    whole = [Prompt(p.ids + tuple(t)) for p, t in zip(bench.prompts, tokens.tolist(), strict=True)]
    want = law_of(lm, lm.prefill(whole), bench, rows)
    same("reading on must equal a prompt that holds the response", got, want, bench.tolerance)
    at_once = lm.extend(lm.prefill(bench.prompts), tokens, bench.lengths(rows, tokens.shape[1]))
    must = "reading turn by turn must equal reading at once"
    same(must, law_of(lm, at_once, bench, rows), want, bench.tolerance)


def a_batch_equals_each_row_alone(lm: LanguageModel[Any], bench: Bench) -> None:
    """No row sees another, nor its padding, also when rows gain different numbers of tokens."""
    rows = len(bench.prompts)
    tokens = torch.cat([bench.random_tokens(rows, seed=i) for i in range(3)], dim=1)
    lengths = torch.arange(rows, device=bench.device) % 3 + 1
    got = law_of(lm, lm.extend(lm.prefill(bench.prompts), tokens, lengths), bench, rows)
    for i, n in enumerate(lengths.tolist()):
        alone = lm.prefill([bench.prompts[i]])
        alone = lm.extend(alone, tokens[i : i + 1, :n], bench.lengths(1, n))
        want = law_of(lm, alone, bench, 1)
        same("a row in a batch must be as alone", got[i : i + 1], want, bench.tolerance)


def rows_that_gain_nothing_stay_as_they_were(lm: LanguageModel[Any], bench: Bench) -> None:
    """`lengths[b]` = 0 leaves row b alone, whatever the others gain; all may gain nothing."""
    rows = len(bench.prompts)
    state = lm.prefill(bench.prompts)
    before = law_of(lm, state, bench, rows).clone()
    tokens = torch.cat([bench.random_tokens(rows, seed=41 + i) for i in range(2)], dim=1)
    state = lm.extend(state, tokens, bench.lengths(rows, 0))
    must = "a row that gains no tokens must stay as it was"
    same(must, law_of(lm, state, bench, rows), before, bench.tolerance)
    lengths = torch.arange(rows, device=bench.device).remainder(2) * 2  # 0, 2, 0
    state = lm.extend(state, tokens, lengths)
    after = bench.random_tokens(rows, seed=43)
    for read in (tokens[:, :0], after):
        if read.shape[1]:
            state = lm.extend(state, read, bench.lengths(rows))
        got = law_of(lm, state, bench, rows)
        for i, n in enumerate(lengths.tolist()):
            response = torch.cat([tokens[i, :n], read[i]])[None]
            alone = lm.prefill([bench.prompts[i]])
            if response.shape[1]:
                alone = lm.extend(alone, response, bench.lengths(1, response.shape[1]))
            want = law_of(lm, alone, bench, 1)
            same(must, got[i : i + 1], want, bench.tolerance)


def select_moves_rows(lm: LanguageModel[Any], bench: Bench) -> None:
    """Dropped, reordered and forked rows are as they were, and forks are independent."""
    state, rows = lm.prefill(bench.prompts), len(bench.prompts)
    before = law_of(lm, state, bench, rows).clone()
    order = torch.tensor([2, 0, 0])
    state = lm.select(state, order)
    same("selected rows must be as they were", law_of(lm, state, bench, 3), before[order],
         bench.tolerance)  # fmt: skip
    tokens = bench.random_tokens(3, seed=11)
    got = law_of(lm, lm.extend(state, tokens, bench.lengths(3)), bench, 3)
    for i, row in enumerate(order.tolist()):
        alone = lm.prefill([bench.prompts[row]])
        alone = lm.extend(alone, tokens[i : i + 1], bench.lengths(1))
        want = law_of(lm, alone, bench, 1)
        same("forks must be independent", got[i : i + 1], want, bench.tolerance)


def joined_rows_equal_each_alone(lm: LanguageModel[Any], bench: Bench) -> None:
    """Rows that arrive late are as they would be alone, also after others were dropped."""
    early, tokens = _walk(lm, lm.prefill(bench.prompts[:1]), bench, 1)
    joined = lm.join([early, lm.prefill(bench.prompts[1:])])
    rows = len(bench.prompts)
    got = law_of(lm, joined, bench, rows)
    first = lm.prefill(bench.prompts[:1])
    first = lm.extend(first, tokens, bench.lengths(1, tokens.shape[1]))
    alone = [law_of(lm, first, bench, 1)]
    alone.append(law_of(lm, lm.prefill(bench.prompts[1:]), bench, rows - 1))
    same("joined rows must be as alone", got, torch.cat(alone), bench.tolerance)
    last = lm.select(joined, torch.tensor([rows - 1]))
    after = law_of(lm, last, bench, 1)
    same("a joined row must outlive the others", after, got[-1:], bench.tolerance)


def rows_come_and_go(lm: LanguageModel[Any], bench: Bench) -> None:
    """A row is dropped, the others read on, a new one takes its place: each is as alone."""
    state, before = _walk(lm, lm.prefill(bench.prompts), bench, len(bench.prompts))
    kept = torch.tensor([0, 2])
    state, after = _walk(lm, lm.select(state, kept), bench, 2)
    state = lm.join([state, lm.prefill(bench.prompts[1:2])])
    last = bench.random_tokens(3, seed=31)
    got = law_of(lm, lm.extend(state, last, bench.lengths(3)), bench, 3)
    read = [*torch.cat([before[kept.to(before.device)], after, last[:2]], dim=1), last[2]]
    for i, (place, tokens) in enumerate(zip((0, 2, 1), read, strict=True)):
        alone = lm.prefill([bench.prompts[place]])
        alone = lm.extend(alone, tokens[None], bench.lengths(1, len(tokens)))
        want = law_of(lm, alone, bench, 1)
        same("rows must outlive others", got[i : i + 1], want, bench.tolerance)


def costs_grow_and_prefixes_are_read_once(lm: LanguageModel[Any], bench: Bench) -> None:
    """Counters never fall, and no prefix token is read a second time."""
    cost = dict(vars(lm.cost))
    state = lm.prefill(bench.prompts)
    for _ in range(2):
        state, _ = _walk(lm, state, bench, len(bench.prompts))
        now = dict(vars(lm.cost))
        for name, count in now.items():
            hold(count >= cost[name], f"cost.{name} must never fall", f"{cost[name]}, then {count}")
        again = now["recomputed"] - cost["recomputed"]
        hold(bench.rereads or again == 0, "prefix tokens must not be read again", again)
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
