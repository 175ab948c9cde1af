"""What a guide says of given prefixes, asked as decoding asks it: prefill, extend, score.

Legend: B rows, L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trimtab.decoding.step import check_scores
from trimtab.errors import GuideError, UsageError
from trimtab.models.proposals import is_eos
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Candidates, Prompt

ROWS = 16
"""Responses that are read side by side."""

OnRows = Callable[[int], object]
"""Called with how many more responses have been read."""


@dataclass(frozen=True)
class _Row:
    """A response, and after which of its tokens it is scored: ascending, each once."""

    number: int
    prompt: Prompt
    tokens: tuple[int, ...]
    stops: tuple[int, ...]


def prefix_scores(
    guide: Guide[Any],
    lm: LanguageModel[Any],
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[int]],
    at: Sequence[Sequence[int]],
    *,
    rows: int = ROWS,
    on: OnRows | None = None,
) -> list[list[float]]:
    """score(prompt, y_1 .. y_t) of every response y, for each t in its part of `at`.

    The tokens are forced: y_1 .. y_{t-1} are read, and y_t is scored as the only candidate. So the
    numbers are those that decoding would have weighed at that step, cache and transforms included.
    Equal prompts that follow each other are read once.

    Args:
        guide: any.
        lm: the base: which tokens end a response, and where candidates live.
        prompts: of each response.
        responses: ids, EOS included.
        at: for each response, numbers of its tokens, from 1 to all.
        rows: responses that are read side by side.
        on: told after each batch.

    Returns:
        The scores, in the order of `at`.

    Raises:
        UsageError: a number of tokens that a response does not have.
        GuideError: a score that is not finite, or of the wrong shape.
    """
    every = [
        _row(i, prompt, tuple(tokens), stops)
        for i, (prompt, tokens, stops) in enumerate(zip(prompts, responses, at, strict=True))
    ]
    found: dict[tuple[int, int], float] = {}
    for batch in _batches(every, rows):
        _walk(guide, lm, batch, found)
        if on is not None:
            on(len(batch))
    return [[found[i, stop] for stop in stops] for i, stops in enumerate(at)]


def _row(number: int, prompt: Prompt, tokens: tuple[int, ...], stops: Sequence[int]) -> _Row:
    if not stops or min(stops) < 1 or max(stops) > len(tokens):
        raise UsageError(
            f"a response of {len(tokens)} tokens is scored after 1 to {len(tokens)} of them",
            got=f"{list(stops)}",
            do="ask for such numbers",
        )
    return _Row(number, prompt, tokens, tuple(sorted(set(stops))))


def _batches(every: Sequence[_Row], size: int) -> Iterator[list[_Row]]:
    """Rows that have something to read at every step: scored first at token one, or later."""
    for at_once in (True, False):
        mine = [row for row in every if (row.stops[0] == 1) == at_once]
        yield from (mine[i : i + size] for i in range(0, len(mine), size))


def _walk(
    guide: Guide[Any],
    lm: LanguageModel[Any],
    live: list[_Row],
    found: dict[tuple[int, int], float],
) -> None:
    """Read a batch from stop to stop, and note its scores; rows without another stop go."""
    state = _opened(guide, [row.prompt for row in live])
    for turn in range(max(len(row.stops) for row in live)):
        kept = [i for i, row in enumerate(live) if len(row.stops) > turn]
        if len(kept) < len(live):
            state = guide.select(state, torch.tensor(kept))
            live = [live[i] for i in kept]
        start = [row.stops[turn - 1] - 1 if turn else 0 for row in live]
        new = [row.tokens[n : row.stops[turn] - 1] for row, n in zip(live, start, strict=True)]
        if any(new):
            state = guide.extend(state, *_padded(new, lm.device))
        last = [row.tokens[row.stops[turn] - 1] for row in live]
        for row, score in zip(live, _scored(guide, lm, state, last), strict=True):
            found[row.number, row.stops[turn]] = score


def _opened(guide: Guide[Any], prompts: Sequence[Prompt]) -> Any:
    """A state of one row per prompt; the same prompt is read once and forked."""
    unique: list[Prompt] = []
    place = []
    for prompt in prompts:
        if not unique or unique[-1] != prompt:
            unique.append(prompt)
        place.append(len(unique) - 1)
    state = guide.prefill(unique)
    return state if len(unique) == len(prompts) else guide.select(state, torch.tensor(place))


def _scored(
    guide: Guide[Any], lm: LanguageModel[Any], state: Any, tokens: Sequence[int]
) -> list[float]:
    """The score of one candidate of one token for each row."""
    candidates = forced([[token] for token in tokens], lm)
    scores = guide.score(state, candidates)
    check_scores(guide.name, scores, candidates)
    found: list[float] = scores[:, 0].tolist()
    if not bool(torch.isfinite(scores).all()):
        raise GuideError(
            f"guide {guide.name!r} must return finite scores", got=f"{found}", do="mend the guide"
        )
    return found


def forced(tokens: Sequence[Sequence[int]], lm: LanguageModel[Any]) -> Candidates:
    """Given tokens as candidates: B rows of as many tokens each, every one a continuation."""
    ids = torch.tensor(tokens, device=lm.device)
    nothing = torch.zeros(ids.shape, device=lm.device)
    return Candidates(ids[:, :, None], nothing, torch.ones_like(ids), is_eos(ids, lm.eos_ids))


def _padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Rows of ids, padded on the right, with their lengths."""
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens.to(device), torch.tensor([len(row) for row in rows]).to(device)
