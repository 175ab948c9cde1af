"""The laws of whatever reads rows, guide or model, and those of guides' scores.

Most hold what a reader says of a row in company to what it says of that row alone, or of the same
tokens read at once.

Legend: B rows, L tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from trimtab.errors import IncompatibleError
from trimtab.protocols import Guide, LanguageModel, Reader
from trimtab.testing.fixture import Fixture, hold, same
from trimtab.types import Prompt, TopK, Vocabulary

ReaderLaw: TypeAlias = Callable[[Any, Fixture], None]
GuideLaw: TypeAlias = Callable[[Guide[Any], Fixture], None]


# --- what laws do with a reader ------------------------------------------------------------------


def look(
    reader: Any, state: Any, fixture: Fixture, seed: int, rows: Iterable[int] | None = None
) -> Tensor:
    """What a reader says of its rows: a guide its scores, a model its next log-probabilities.

    A guide's row i is asked for candidates `rows[i]` of that seed; for its own if None.
    """
    rows = list(range(fixture.rows) if rows is None else rows)
    if isinstance(reader, LanguageModel):
        return next_logprobs(reader, state, fixture, len(rows))
    scores: Tensor = reader.score(state, fixture.candidates(seed).select(torch.tensor(rows)))
    return scores.clone()


def next_logprobs(
    lm: LanguageModel[Any], state: Any, fixture: Fixture, rows: int | None = None
) -> Tensor:
    """log pi_ref of the next token [B, V]; of a model that tells its top k only, the rest -inf."""
    rows = fixture.rows if rows is None else rows
    rng = fixture.rng(fixture.prompts[:1] * rows)
    try:
        candidates = lm.propose(state, Vocabulary(), rng)
    except IncompatibleError:
        candidates = lm.propose(state, TopK(fixture.k), rng)
    logprobs = torch.full((rows, fixture.size), -torch.inf, dtype=candidates.logprobs.dtype)
    return logprobs.scatter(1, candidates.tokens[:, :, 0].cpu(), candidates.logprobs.cpu())


def read_on(reader: Any, state: Any, tokens: Tensor) -> Any:
    """The state after each row has read its row of tokens [B, L]."""
    lengths = torch.full((tokens.shape[0],), tokens.shape[1], device=tokens.device)
    return reader.extend(state, tokens, lengths)


def walk(reader: Any, state: Any, fixture: Fixture, rows: int) -> tuple[Any, Tensor]:
    """Some steps with a look before each: candidates and other tokens are read; [B, steps]."""
    chosen = []
    for step in range(fixture.steps):
        look(reader, state, fixture, step, range(rows))
        candidates = fixture.candidates(step).tokens[:rows]
        token = candidates[:, step % candidates.shape[1]]
        if step % 3 == 2:  # one row takes a token from the tail
            token = torch.cat([fixture.random_tokens(1, seed=90 + step), token[1:]])
        state = read_on(reader, state, token)
        chosen.append(token)
    return state, torch.cat(chosen, dim=1)


def walk_from_prompts(reader: Any, fixture: Fixture) -> tuple[Any, Tensor]:
    """Such steps of all prompts."""
    return walk(reader, reader.prefill(fixture.prompts), fixture, fixture.rows)


def hold_alone(
    must: str,
    got: Tensor,
    reader: Any,
    fixture: Fixture,
    read: Iterable[Tensor],
    seed: int,
    prompts: Sequence[int] | None = None,
) -> None:
    """Each row of `got` must be what a reader says of a prompt that read so much in no company."""
    for i, tokens in enumerate(read):
        prompt = fixture.prompts[prompts[i] if prompts else i]
        state = reader.prefill([prompt])
        if len(tokens):
            state = read_on(reader, state, tokens[None])
        want = look(reader, state, fixture, seed, [i])
        same(must, got[i : i + 1], want, fixture.tolerance)


# --- the laws of guides and models ---------------------------------------------------------------


def cached_reading_equals_reading_at_once(reader: Reader[Any], fixture: Fixture) -> None:
    """Step by step, with a look in between, or all tokens at once: the same numbers."""
    state, tokens = walk_from_prompts(reader, fixture)
    fresh = read_on(reader, reader.prefill(fixture.prompts), tokens)
    got, want = (look(reader, read, fixture, 50) for read in (state, fresh))
    same("reading step by step must equal reading at once", got, want, fixture.tolerance)


def cached_reading_equals_a_longer_prompt(reader: Reader[Any], fixture: Fixture) -> None:
    """What reads ids alone sees no seam between prompt and response."""
    if fixture.seam:
        return
    state, tokens = walk_from_prompts(reader, fixture)
    pairs = zip(fixture.prompts, tokens.tolist(), strict=True)
    whole = reader.prefill([Prompt(prompt.ids + tuple(read)) for prompt, read in pairs])
    got, want = (look(reader, read, fixture, 50) for read in (state, whole))
    same("reading on must equal a prompt that holds the response", got, want, fixture.tolerance)


def ragged_extensions_read_only_their_tokens(reader: Reader[Any], fixture: Fixture) -> None:
    """`lengths[b]` tokens are read; what stands behind them is not."""
    tokens = fixture.random_tokens(fixture.rows, seed=0, length=3)
    lengths = torch.arange(fixture.rows, device=fixture.device) % 3 + 1
    state = reader.extend(reader.prefill(fixture.prompts), tokens, lengths)
    got = look(reader, state, fixture, 4)
    read = [row[:n] for row, n in zip(tokens, lengths.tolist(), strict=True)]
    hold_alone("a ragged extend must equal each row's own", got, reader, fixture, read, 4)


def a_batch_equals_each_row_alone(reader: Reader[Any], fixture: Fixture) -> None:
    """No row sees another, nor its padding."""
    state, tokens = walk_from_prompts(reader, fixture)
    got = look(reader, state, fixture, 3)
    hold_alone("a row in a batch must be as alone", got, reader, fixture, tokens, 3)


def rows_that_gain_nothing_stay_as_they_were(reader: Reader[Any], fixture: Fixture) -> None:
    """`lengths[b]` = 0 leaves row b alone, whatever the others gain; all may gain nothing.

    Once with tokens that were just scored and once with two that were not; what stands in the place
    of a row's tokens is read by nobody. All rows read on afterwards.
    """
    rows, must = fixture.rows, "a row that gains no tokens must stay as it was"
    scored = fixture.candidates(seed=40).tokens[:, 1]
    after = fixture.random_tokens(rows, seed=43)
    gains = torch.arange(rows, device=fixture.device) % 2  # 0, 1, 0
    for tokens in (scored, fixture.random_tokens(rows, seed=41, length=2)):
        state = reader.prefill(fixture.prompts)
        look(reader, state, fixture, 40)
        state = reader.extend(state, tokens, torch.zeros_like(gains))
        state = reader.extend(state, tokens, gains * tokens.shape[1])
        read = [row[: n * len(row)] for row, n in zip(tokens, gains.tolist(), strict=True)]
        hold_alone(must, look(reader, state, fixture, 43), reader, fixture, read, 43)
        state = read_on(reader, state, after)
        read = [torch.cat(both) for both in zip(read, after, strict=True)]
        hold_alone(must, look(reader, state, fixture, 43), reader, fixture, read, 43)


def select_moves_rows(reader: Reader[Any], fixture: Fixture) -> None:
    """Dropped, reordered and forked rows are as they were."""
    state, order = reader.prefill(fixture.prompts), [2, 0, 0]
    before = look(reader, state, fixture, 6)
    state = reader.select(state, torch.tensor(order))
    got = look(reader, state, fixture, 6, order)
    same("selected rows must be as they were", got, before[order], fixture.tolerance)


def forks_are_independent(reader: Reader[Any], fixture: Fixture) -> None:
    """What one copy of a row reads, the other does not."""
    state = reader.select(reader.prefill(fixture.prompts), torch.tensor([1, 1, 1]))
    tokens = fixture.random_tokens(3, seed=11)
    got = look(reader, read_on(reader, state, tokens), fixture, 12, range(3))
    hold_alone("forks must be independent", got, reader, fixture, tokens, 12, (1, 1, 1))


def joined_rows_equal_each_alone(reader: Reader[Any], fixture: Fixture) -> None:
    """Rows that arrive late are as they would be alone, also after rows were dropped again."""
    early, tokens = walk(reader, reader.prefill(fixture.prompts[:1]), fixture, 1)
    joined = reader.join([early, reader.prefill(fixture.prompts[1:])])
    got = look(reader, joined, fixture, 7)
    read = [tokens[0], *(tokens[0, :0] for _ in fixture.prompts[1:])]
    hold_alone("joined rows must be as alone", got, reader, fixture, read, 7)
    last = fixture.rows - 1
    after = look(reader, reader.select(joined, torch.tensor([last])), fixture, 7, [last])
    same("a joined row must outlive the others", after, got[last:], fixture.tolerance)


def rows_come_and_go(reader: Reader[Any], fixture: Fixture) -> None:
    """A row is dropped, the others read on, a new one takes its place: each is as alone."""
    state, before = walk_from_prompts(reader, fixture)
    kept = torch.tensor([0, 2])
    state, after = walk(reader, reader.select(state, kept), fixture, 2)
    state = reader.join([state, reader.prefill(fixture.prompts[1:2])])
    last = fixture.random_tokens(3, seed=31)
    got = look(reader, read_on(reader, state, last), fixture, 32, range(3))
    read = [*torch.cat([before[kept.to(before.device)], after, last[:2]], dim=1), last[2]]
    hold_alone("rows must outlive others", got, reader, fixture, read, 32, (0, 2, 1))


def costs_grow_and_prefixes_are_read_once(reader: Reader[Any], fixture: Fixture) -> None:
    """Counters never fall, and no prefix token is read a second time."""
    cost = dict(vars(reader.cost))
    state = reader.prefill(fixture.prompts)
    for _ in range(2):
        state, _tokens = walk(reader, state, fixture, fixture.rows)
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


# --- the laws of guides --------------------------------------------------------------------------


def scores_are_one_finite_number_per_candidate(guide: Guide[Any], fixture: Fixture) -> None:
    """score returns a finite [B, K]."""
    candidates = fixture.candidates(seed=1)
    scores = guide.score(guide.prefill(fixture.prompts), candidates)
    must = f"score must return {list(candidates.logprobs.shape)} finite numbers"
    hold(scores.shape == candidates.logprobs.shape, must, f"shape {list(scores.shape)}")
    hold(bool(torch.isfinite(scores).all()), must, "NaN or inf")


def score_leaves_the_state_as_it_was(guide: Guide[Any], fixture: Fixture) -> None:
    """Scoring twice, with other candidates in between, gives the same numbers."""
    state = guide.prefill(fixture.prompts)
    first = look(guide, state, fixture, 1)
    look(guide, state, fixture, 2)
    same("score must leave the state as it was", look(guide, state, fixture, 1), first, 1e-6)
    token = fixture.candidates(seed=2).tokens[:, 0]
    got = look(guide, read_on(guide, state, token), fixture, 1)
    fresh = read_on(guide, guide.prefill(fixture.prompts), token)
    must = "an extended state must not remember which candidates were scored"
    same(must, got, look(guide, fresh, fixture, 1), fixture.tolerance)


def scores_follow_permuted_candidates(guide: Guide[Any], fixture: Fixture) -> None:
    """The order of candidates decides nothing."""
    state = guide.prefill(fixture.prompts)
    candidates = fixture.candidates(seed=8)
    before = guide.score(state, candidates).clone()
    tokens, lengths = candidates.tokens.cpu().flip(1), candidates.lengths.cpu().flip(1)
    got = guide.score(state, fixture.candidates_of(tokens, lengths))
    must = "permuted candidates must have permuted scores"
    same(must, got, before.flip(1), fixture.tolerance)


def long_candidates_equal_reading_their_beginning(guide: Guide[Any], fixture: Fixture) -> None:
    """score(s, ab) = score(sa, b), unless the guide says that it scores single tokens."""
    heads = fixture.random_tokens(fixture.rows, seed=21)
    tails = fixture.candidates(seed=22, length=2)
    first = heads[:, None].expand(-1, tails.shape[1], -1)
    tokens = torch.cat([first, tails.tokens], dim=2).cpu()
    whole = fixture.candidates_of(tokens, tails.lengths.cpu() + 1)
    try:
        got = guide.score(guide.prefill(fixture.prompts), whole)
        want = guide.score(read_on(guide, guide.prefill(fixture.prompts), heads), tails)
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
