"""What rewards say of finished texts, kept apart from them; one that fails costs only itself."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeAlias

from trimtab.errors import RewardError, UsageError
from trimtab.protocols import Reward
from trimtab.rewards.names import ask
from trimtab.runs.batches import Batch
from trimtab.runs.record import Answer, Scored
from trimtab.runs.resolve import Scorer, find_reward
from trimtab.runs.store import Rewards, Store

OnRewardError: TypeAlias = Literal["raise", "skip"]
"""What a response does that a reward cannot score.

"raise" ends the run with an error that names it, and keeps what is finished; "skip" leaves its
score out and counts it.
"""

log = logging.getLogger("trimtab")

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


@dataclass(frozen=True)
class Scoring:
    """The rewards that a run is to have.

    Attributes:
        scorers: rewards and judges.
        again: ask once more for texts that could not be scored before.
        stop: raise at the first batch with a text that cannot be scored; its other scores are kept.
    """

    scorers: tuple[Scorer, ...] = ()
    again: bool = True
    stop: bool = False

    def wanting(self, store: Store, batch: Batch) -> Iterator[Scorer]:
        """The rewards that have not said all that they are to say of a batch.

        Nor has one that was asked with other references.
        """
        for scorer in self.scorers:
            scored = store.scores(scorer.key, batch.key)
            if (
                scored is None
                or _stale(scored, batch)
                or (self.again and any(row.failed for row in scored))
            ):
                yield scorer

    def score(self, store: Store, batch: Batch, scorer: Scorer) -> None:
        """Publish what a reward says of a batch that is claimed.

        Responses that it has scored are not asked again.

        Raises:
            RewardError: it could not score one and `stop` is set; the other scores are kept.
        """
        rows = store.read(batch.key, ledger=False)
        known = store.scores(scorer.key, batch.key)
        answers: list[list[Answer]] = [[None] * len(row.group.responses) for row in rows]
        if known is not None and not _stale(known, batch):
            answers = [list(row.answers) for row in known]
        places = [(i, j) for i, of_row in enumerate(answers) for j in range(len(of_row))]
        open_ = [(i, j) for i, j in places if not isinstance(answers[i][j], float)]
        samples = [batch.items[i].sample for i, _ in open_]
        texts = [rows[i].group.responses[j].text for i, j in open_]
        new = ask(scorer.function, samples, texts)
        for (i, j), answer in zip(open_, new, strict=True):
            answers[i][j] = answer
        scored = [
            Scored(item.id, item.seen.value, tuple(of_row))
            for item, of_row in zip(batch.items, answers, strict=True)
        ]
        store.write_scores(scorer.key, batch.key, scored)
        failed = [
            Failure(scorer.name, sample.text, text, answer)
            for sample, text, answer in zip(samples, texts, new, strict=True)
            if isinstance(answer, str)
        ]
        if failed and self.stop:
            raise reward_error(failed, len(places) - len(failed))

    def failures(self, store: Store, batches: Iterable[Batch]) -> list[Failure]:
        """The texts without a score, in the order of scorers and batches."""
        failures = []
        for scorer, batch in product(self.scorers, list(batches)):
            scored = store.scores(scorer.key, batch.key) or []
            if not any(row.failed for row in scored):
                continue
            rows = store.read(batch.key, ledger=False)
            for item, row, of_row in zip(batch.items, rows, scored, strict=True):
                failures += [
                    Failure(scorer.name, item.sample.text, response.text, answer)
                    for response, answer in zip(row.group.responses, of_row.answers, strict=True)
                    if isinstance(answer, str)
                ]
        return failures


def _stale(scored: Sequence[Scored], batch: Batch) -> bool:
    """Whether the reward saw other topics or references than it would see now."""
    return [row.seen for row in scored] != [item.seen.value for item in batch.items]


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


def scorers_of(rewards: Sequence[Scorer | Reward | str]) -> tuple[Scorer, ...]:
    """Rewards under their names.

    Raises:
        UnknownNameError: there is none of that name.
        UsageError: two have one name.
    """
    scorers: dict[str, Scorer] = {}
    for reward in rewards:
        scorer = find_reward(reward)
        if scorer.name in scorers:
            raise UsageError(
                "rewards must differ in name", got=f"{scorer.name!r} twice", do="rename one"
            )
        scorers[scorer.name] = scorer
    return tuple(scorers.values())


def identities(scorers: Iterable[Scorer]) -> Rewards:
    """What a manifest says of rewards before there are statistics."""
    return {s.name: {"fingerprint": s.fingerprint, "folder": s.key} for s in scorers}


def warn_of(name: str, unknown: str, follows: str) -> None:
    """Say of what has no fingerprint why that is, and what follows from it."""
    if unknown:
        log.warning(
            "%s cannot be told from others of its name, so %s: %s (a text as its attribute "
            "`fingerprint` would tell it)",
            name,
            follows,
            unknown,
        )
