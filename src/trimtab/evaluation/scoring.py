"""Scores of finished texts, kept apart from them; one that fails costs only itself."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.errors import RewardError, TrimtabError
from trimtab.evaluation.cells import Unit
from trimtab.evaluation.records import Record
from trimtab.evaluation.sources import Scorer
from trimtab.evaluation.store import Store
from trimtab.evaluation.work import PATIENCE, OnProgress, Progress

SHOWN = 80
"""Characters of a prompt or a text that an error shows."""


@dataclass(frozen=True)
class Failure:
    """A text that a scorer could not score.

    Attributes:
        scorer: its name.
        prompt: what was asked.
        text: the response.
        why: what the scorer did instead.
    """

    scorer: str
    prompt: str
    text: str
    why: str


def score(
    store: Store,
    scorers: Sequence[Scorer],
    units: Sequence[Unit],
    on: OnProgress,
    *,
    again: bool = True,
) -> list[Failure]:
    """Have every scorer score every unit that it has not scored.

    Args:
        store: where texts and scores are.
        scorers: rewards and judges.
        units: finished ones.
        on: told after each unit.
        again: ask again for texts that failed before.

    Returns:
        The texts without a score, in the order of scorers and units.
    """
    todo = deque((s, u) for s in scorers for u in units if not _settled(store, s, u, again))
    total, asked = len(scorers) * len(units), 0
    while todo:
        waiting = len(todo)
        for _ in range(waiting):
            scorer, unit = todo.popleft()
            with store.claim(f"{scorer.key}-{unit.key}") as mine:
                if _settled(store, scorer, unit, again):
                    continue
                if not mine:
                    todo.append((scorer, unit))
                    continue
                known = (store.scores(unit, scorer) or {}).get("scores")
                store.write_scores(unit, scorer, score_record(store.read(unit), scorer, known))
                asked += 1
            on(Progress("score", total - len(todo), total, asked, unit.key))
        if len(todo) == waiting:
            time.sleep(PATIENCE)
    return [f for scorer in scorers for unit in units for f in _failures(store, scorer, unit)]


def _settled(store: Store, scorer: Scorer, unit: Unit, again: bool) -> bool:
    said = store.scores(unit, scorer)
    return said is not None and not (again and said["failed"])


def _failures(store: Store, scorer: Scorer, unit: Unit) -> list[Failure]:
    said = store.scores(unit, scorer) or {"failed": []}
    return [Failure(scorer.name, f["prompt"], f["text"], f["why"]) for f in said["failed"]]


# --- one unit ------------------------------------------------------------------------------------


def score_record(
    record: Record, scorer: Scorer, known: Sequence[float | None] | None = None
) -> dict[str, Any]:
    """Scores of a unit's texts, all at once where that works and one by one where it does not."""
    texts = [completion.text for completion in record.completions]
    n = len(texts) // len(record.items)
    prompts = [item.text for item in record.items for _ in range(n)]
    scores: list[float | None] = list(known or [None] * len(texts))
    open_ = [i for i, value in enumerate(scores) if value is None]
    try:
        found: list[float | str] = list(_ask(scorer, prompts, texts, open_))
    except UnusableError:
        found = [_alone(scorer, prompts, texts, i) for i in open_]
    failed = []
    for i, value in zip(open_, found, strict=True):
        if isinstance(value, float) and math.isfinite(value):
            scores[i] = value
        else:
            why = value if isinstance(value, str) else f"{value}"
            failed.append({"index": i, "prompt": prompts[i], "text": texts[i], "why": why})
    return {"scores": scores, "failed": failed}


class UnusableError(Exception):
    """Inside this file: a scorer raised, or did not return one number for each text."""


def _ask(
    scorer: Scorer, prompts: Sequence[str], texts: Sequence[str], at: Sequence[int]
) -> list[float]:
    try:
        values = [
            float(x) for x in scorer.function([prompts[i] for i in at], [texts[i] for i in at])
        ]
    except TrimtabError as error:
        if isinstance(error, RewardError):
            raise UnusableError(str(error)) from error
        raise  # a model that is not fetched, a package that is missing: no text is to blame
    except Exception as error:
        raise UnusableError(f"{type(error).__name__}: {error}") from error
    if len(values) != len(at):
        raise UnusableError(f"{len(values)} scores for {len(at)} texts")
    return values


def _alone(scorer: Scorer, prompts: Sequence[str], texts: Sequence[str], i: int) -> float | str:
    try:
        return _ask(scorer, prompts, texts, [i])[0]
    except UnusableError as error:
        return str(error)


def reward_error(failures: Sequence[Failure], scored: int) -> RewardError:
    """The error that names the first text without a score."""
    first = failures[0]
    prompt, text = (x if len(x) <= SHOWN else f"{x[:SHOWN]}..." for x in (first.prompt, first.text))
    more = f", and {len(failures) - 1} more" if len(failures) > 1 else ""
    return RewardError(
        f"reward {first.scorer!r} must return one finite number for each text",
        got=f"{first.why} (prompt {prompt!r}, text {text!r}){more}; {scored} others are kept",
        do='mend it and run again, or leave such texts out with on_reward_error="skip"',
    )
