"""Scores of finished texts, kept apart from them; one that fails costs only itself."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.errors import RewardError
from trimtab.evaluation.cells import Unit
from trimtab.evaluation.records import Record
from trimtab.evaluation.store import Store
from trimtab.evaluation.work import PATIENCE, OnProgress, Progress
from trimtab.rewards import ask
from trimtab.runs.resolve import Scorer

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
                said = score_record(store.read(unit), unit, scorer, known)
                store.write_scores(unit, scorer, said)
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
    record: Record, unit: Unit, scorer: Scorer, known: Sequence[float | None] | None = None
) -> dict[str, Any]:
    """Scores of a unit's texts; what is asked comes from the unit: records hold no references."""
    texts = [completion.text for completion in record.completions]
    n = len(texts) // len(unit.items)
    samples = [item.sample for item in unit.items for _ in range(n)]
    scores: list[float | None] = list(known or [None] * len(texts))
    at = [i for i, value in enumerate(scores) if value is None]
    found = ask(scorer.function, [samples[i] for i in at], [texts[i] for i in at])
    failed = []
    for i, value in zip(at, found, strict=True):
        if isinstance(value, float):
            scores[i] = value
        else:
            failed.append({"index": i, "prompt": samples[i].text, "text": texts[i], "why": value})
    return {"scores": scores, "failed": failed}


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
