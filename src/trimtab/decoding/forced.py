"""Scores of given tokens, asked as decoding asks for them: prefill, extend, score.

Legend: B rows, K candidates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from trimtab.decoding.step import check_scores
from trimtab.errors import GuideError, UsageError
from trimtab.protocols import Guide, LanguageModel
from trimtab.types import Candidates, Prompt, is_eos, pad_ids

ROWS = 16
"""Responses that are read side by side."""

OnRows: TypeAlias = Callable[[int], object]
"""Called with how many more responses have been read."""


def forced(tokens: Sequence[Sequence[int]], lm: LanguageModel[Any]) -> Candidates:
    """Given tokens as the only candidates: B rows of K tokens, every one a continuation."""
    ids = torch.tensor(tokens, device=lm.device)
    certain = torch.zeros(ids.shape, device=lm.device)
    return Candidates(ids[:, :, None], certain, torch.ones_like(ids), is_eos(ids, lm.eos_ids))


@dataclass(frozen=True)
class _Response:
    number: int
    prompt: Prompt
    tokens: tuple[int, ...]
    stops: tuple[int, ...]  # after which of its tokens it is scored: ascending, each once


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
    Equal prompts that follow each other are read once, and so is every token between two stops.

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
    each = [
        _Response(i, prompt, tuple(tokens), _ascending(stops, len(tokens)))
        for i, (prompt, tokens, stops) in enumerate(zip(prompts, responses, at, strict=True))
    ]
    scores: dict[tuple[int, int], float] = {}
    # Apart, so that every row of a batch has something to read before it is scored, or none has.
    for at_once in (True, False):
        group = [response for response in each if (response.stops[0] == 1) == at_once]
        for i in range(0, len(group), rows):
            batch = group[i : i + rows]
            scores |= _score_batch(guide, lm, batch)
            if on is not None:
                on(len(batch))
    return [[scores[i, stop] for stop in stops] for i, stops in enumerate(at)]


def _ascending(stops: Sequence[int], tokens: int) -> tuple[int, ...]:
    if not stops or min(stops) < 1 or max(stops) > tokens:
        raise UsageError(
            f"a response of {tokens} tokens is scored after 1 to {tokens} of them",
            got=f"{list(stops)}",
            do="ask for such numbers",
        )
    return tuple(sorted(set(stops)))


def _score_batch(
    guide: Guide[Any], lm: LanguageModel[Any], live: list[_Response]
) -> dict[tuple[int, int], float]:
    """Scores by response and stop: read from stop to stop; rows without another stop go."""
    scores: dict[tuple[int, int], float] = {}
    state = _prefill(guide, [response.prompt for response in live])
    for turn in range(max(len(response.stops) for response in live)):
        kept = [i for i, response in enumerate(live) if len(response.stops) > turn]
        if len(kept) < len(live):
            state = guide.select(state, torch.tensor(kept))
            live = [live[i] for i in kept]
        unread = [r.tokens[r.stops[turn - 1] - 1 if turn else 0 : r.stops[turn] - 1] for r in live]
        if any(unread):
            state = guide.extend(state, *pad_ids(unread, device=lm.device))
        candidates = forced([[r.tokens[r.stops[turn] - 1]] for r in live], lm)
        column = check_scores(guide.name, guide.score(state, candidates), candidates)
        numbers = column[:, 0].tolist()
        if not all(map(math.isfinite, numbers)):
            raise GuideError(
                f"guide {guide.name!r} must return finite scores",
                got=f"{numbers}",
                do="mend the guide",
            )
        scores |= {(r.number, r.stops[turn]): x for r, x in zip(live, numbers, strict=True)}
    return scores


def _prefill(guide: Guide[Any], prompts: Sequence[Prompt]) -> Any:
    """A state of one row per prompt; equal neighbours are read once and forked."""
    unique: list[Prompt] = []
    source = []
    for prompt in prompts:
        if not unique or unique[-1] != prompt:
            unique.append(prompt)
        source.append(len(unique) - 1)
    state = guide.prefill(unique)
    return state if len(unique) == len(prompts) else guide.select(state, torch.tensor(source))
