"""The laws of whatever reads rows, guide or model: batches, drops, forks, late arrivals.

Each holds what a reader says of a row in company to what it says of that row alone, or of the same
tokens read at once.

Legend: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.errors import IncompatibleError
from trimtab.protocols import LanguageModel, Reader
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.types import Prompt, TopK, Vocabulary

ReaderLaw: TypeAlias = Callable[[Any, Fixture], None]
"""A law of guides and of models."""


def look(reader: Any, state: Any, fixture: Fixture, rows: Sequence[int], seed: int) -> Tensor:
    """What a reader says of its rows: a guide its scores, a model its next log-probabilities.

    Args:
        reader: the guide or model.
        state: its state.
        fixture: makes the candidates.
        rows: which candidates of the seed's each row of the state is asked for.
        seed: of the candidates.
    """
    if isinstance(reader, LanguageModel):
        return next_logprobs(reader, state, fixture, len(rows))
    candidates = fixture.candidates(len(fixture.prompts), seed).select(torch.tensor(rows))
    scores: Tensor = reader.score(state, candidates)
    return scores.clone()


def next_logprobs(lm: LanguageModel[Any], state: Any, fixture: Fixture, rows: int) -> Tensor:
    """log pi_ref of the next token [B, V], or of the model's top k if it tells no more.

    NaN-free, with -inf where nothing was said.
    """
    rng = fixture.rng(fixture.prompts[:1] * rows)
    try:
        candidates = lm.propose(state, Vocabulary(), rng)
    except IncompatibleError:
        candidates = lm.propose(state, TopK(fixture.k), rng)
    logprobs = torch.full((rows, fixture.size), -torch.inf, dtype=candidates.logprobs.dtype)
    return logprobs.scatter(1, candidates.tokens[:, :, 0].cpu(), candidates.logprobs.cpu())


def walk(reader: Any, state: Any, fixture: Fixture, rows: int) -> tuple[Any, Tensor]:
    """Some steps with a look before each: candidates and other tokens are read; [B, steps]."""
    chosen = []
    for step in range(fixture.steps):
        look(reader, state, fixture, range(rows), step)
        candidates = fixture.candidates(len(fixture.prompts), step).tokens[:rows]
        token = candidates[:, step % candidates.shape[1]]
        if step % 3 == 2:  # one row takes a token from the tail
            token = torch.cat([fixture.random_tokens(1, seed=90 + step), token[1:]])
        state = reader.extend(state, token, fixture.lengths(rows))
        chosen.append(token)
    return state, torch.cat(chosen, dim=1)


def alone(
    reader: Any, fixture: Fixture, prompt: int, tokens: Tensor, seed: int, row: int | None = None
) -> Tensor:
    """What a reader says of one prompt that has read some tokens and has no company.

    Args:
        reader: the guide or model.
        fixture: its prompts.
        prompt: which of them.
        tokens: [L].
        seed: of the candidates.
        row: which candidates; the prompt's own if None.
    """
    state = reader.prefill([fixture.prompts[prompt]])
    if len(tokens):
        state = reader.extend(state, tokens[None], fixture.lengths(1, len(tokens)))
    return look(reader, state, fixture, [prompt if row is None else row], seed)


def cached_reading_equals_reading_at_once(reader: Reader[Any], fixture: Fixture) -> None:
    """Step by step, with a look in between, or all tokens at once: the same numbers."""
    rows = range(len(fixture.prompts))
    state, tokens = walk(reader, reader.prefill(fixture.prompts), fixture, len(rows))
    fresh = reader.prefill(fixture.prompts)
    fresh = reader.extend(fresh, tokens, fixture.lengths(len(rows), tokens.shape[1]))
    got, want = (look(reader, read, fixture, rows, 50) for read in (state, fresh))
    same("reading step by step must equal reading at once", got, want, fixture.tolerance)


def cached_reading_equals_a_longer_prompt(reader: Reader[Any], fixture: Fixture) -> None:
    """What reads ids alone sees no seam between prompt and response."""
    if fixture.seam:
        return
    rows = range(len(fixture.prompts))
    state, tokens = walk(reader, reader.prefill(fixture.prompts), fixture, len(rows))
    pairs = zip(fixture.prompts, tokens.tolist(), strict=True)
    whole = reader.prefill([Prompt(prompt.ids + tuple(read)) for prompt, read in pairs])
    got, want = (look(reader, read, fixture, rows, 50) for read in (state, whole))
    same("reading on must equal a prompt that holds the response", got, want, fixture.tolerance)


def ragged_extensions_read_only_their_tokens(reader: Reader[Any], fixture: Fixture) -> None:
    """`lengths[b]` tokens are read; what stands behind them is not."""
    rows = len(fixture.prompts)
    tokens = torch.cat([fixture.random_tokens(rows, seed=i) for i in range(3)], dim=1)
    lengths = torch.arange(rows, device=fixture.device) % 3 + 1
    state = reader.extend(reader.prefill(fixture.prompts), tokens, lengths)
    got = look(reader, state, fixture, range(rows), 4)
    for i, n in enumerate(lengths.tolist()):
        want = alone(reader, fixture, i, tokens[i, :n], 4)
        same("a ragged extend must equal each row's own", got[i : i + 1], want, fixture.tolerance)


def a_batch_equals_each_row_alone(reader: Reader[Any], fixture: Fixture) -> None:
    """No row sees another, nor its padding."""
    rows = len(fixture.prompts)
    state, tokens = walk(reader, reader.prefill(fixture.prompts), fixture, rows)
    got = look(reader, state, fixture, range(rows), 3)
    for i in range(rows):
        want = alone(reader, fixture, i, tokens[i], 3)
        same("a row in a batch must be as alone", got[i : i + 1], want, fixture.tolerance)


def rows_that_gain_nothing_stay_as_they_were(reader: Reader[Any], fixture: Fixture) -> None:
    """`lengths[b]` = 0 leaves row b alone, whatever the others gain; all may gain nothing.

    Once with tokens that were just scored and once with two that were not; what stands in the place
    of a row's tokens is read by nobody. All rows read on afterwards.
    """
    rows, must = len(fixture.prompts), "a row that gains no tokens must stay as it was"
    scored = fixture.candidates(rows, seed=40).tokens[:, 1]
    two = torch.cat([fixture.random_tokens(rows, seed=41 + i) for i in range(2)], dim=1)
    after = fixture.random_tokens(rows, seed=43)
    gains = torch.arange(rows, device=fixture.device) % 2  # 0, 1, 0
    for tokens in (scored, two):
        state = reader.prefill(fixture.prompts)
        look(reader, state, fixture, range(rows), 40)
        state = reader.extend(state, tokens, torch.zeros_like(gains))
        state = reader.extend(state, tokens, gains * tokens.shape[1])
        for more in (tokens[:, :0], after):
            if more.shape[1]:
                state = reader.extend(state, more, fixture.lengths(rows))
            got = look(reader, state, fixture, range(rows), 43)
            for i, gained in enumerate(gains.tolist()):
                read = torch.cat([tokens[i] if gained else tokens[i, :0], more[i]])
                want = alone(reader, fixture, i, read, 43)
                same(must, got[i : i + 1], want, fixture.tolerance)


def select_moves_rows(reader: Reader[Any], fixture: Fixture) -> None:
    """Dropped, reordered and forked rows are as they were."""
    state, order = reader.prefill(fixture.prompts), [2, 0, 0]
    before = look(reader, state, fixture, range(len(fixture.prompts)), 6)
    state = reader.select(state, torch.tensor(order))
    got = look(reader, state, fixture, order, 6)
    same("selected rows must be as they were", got, before[order], fixture.tolerance)


def forks_are_independent(reader: Reader[Any], fixture: Fixture) -> None:
    """What one copy of a row reads, the other does not."""
    state = reader.select(reader.prefill(fixture.prompts), torch.tensor([1, 1, 1]))
    tokens = fixture.random_tokens(3, seed=11)
    state = reader.extend(state, tokens, fixture.lengths(3))
    got = look(reader, state, fixture, range(3), 12)
    for i in range(3):
        want = alone(reader, fixture, 1, tokens[i], 12, row=i)
        same("forks must be independent", got[i : i + 1], want, fixture.tolerance)


def joined_rows_equal_each_alone(reader: Reader[Any], fixture: Fixture) -> None:
    """Rows that arrive late are as they would be alone, also after rows were dropped again."""
    early, tokens = walk(reader, reader.prefill(fixture.prompts[:1]), fixture, 1)
    joined = reader.join([early, reader.prefill(fixture.prompts[1:])])
    rows = len(fixture.prompts)
    got = look(reader, joined, fixture, range(rows), 7)
    read = [tokens[0], *(tokens[0, :0] for _ in range(1, rows))]
    want = torch.cat([alone(reader, fixture, i, read[i], 7) for i in range(rows)])
    same("joined rows must be as alone", got, want, fixture.tolerance)
    last = reader.select(joined, torch.tensor([rows - 1]))
    after = look(reader, last, fixture, [rows - 1], 7)
    same("a joined row must outlive the others", after, want[-1:], fixture.tolerance)


def rows_come_and_go(reader: Reader[Any], fixture: Fixture) -> None:
    """A row is dropped, the others read on, a new one takes its place: each is as alone."""
    state, before = walk(reader, reader.prefill(fixture.prompts), fixture, len(fixture.prompts))
    kept = torch.tensor([0, 2])
    state, after = walk(reader, reader.select(state, kept), fixture, 2)
    state = reader.join([state, reader.prefill(fixture.prompts[1:2])])
    last = fixture.random_tokens(3, seed=31)
    state = reader.extend(state, last, fixture.lengths(3))
    got = look(reader, state, fixture, range(3), 32)
    read = [*torch.cat([before[kept.to(before.device)], after, last[:2]], dim=1), last[2]]
    for i, (prompt, tokens) in enumerate(zip((0, 2, 1), read, strict=True)):
        want = alone(reader, fixture, prompt, tokens, 32, row=i)
        same("rows must outlive others", got[i : i + 1], want, fixture.tolerance)


def costs_grow_and_prefixes_are_read_once(reader: Reader[Any], fixture: Fixture) -> None:
    """Counters never fall, and no prefix token is read a second time."""
    cost = dict(vars(reader.cost))
    state = reader.prefill(fixture.prompts)
    for _ in range(2):
        state, _tokens = walk(reader, state, fixture, len(fixture.prompts))
        now = dict(vars(reader.cost))
        for name, count in now.items():
            hold(count >= cost[name], f"cost.{name} must never fall", f"{cost[name]}, then {count}")
        again = now["recomputed"] - cost["recomputed"]
        must = "prefix tokens must not be read again"
        hold(fixture.rereads or again == 0, must, f"{again} recomputed")
        cost = now


READING: tuple[ReaderLaw, ...] = (
    cached_reading_equals_reading_at_once,
    cached_reading_equals_a_longer_prompt,
    ragged_extensions_read_only_their_tokens,
    a_batch_equals_each_row_alone,
    rows_that_gain_nothing_stay_as_they_were,
    select_moves_rows,
    forks_are_independent,
    joined_rows_equal_each_alone,
    rows_come_and_go,
    costs_grow_and_prefixes_are_read_once,
)
"""The laws that guides and models have in common."""
