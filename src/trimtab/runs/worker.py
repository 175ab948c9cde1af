"""The one loop that does what is missing of a run: claim a batch, decode it, publish, score.

A batch is claimed by a lock that its process' death frees. Its texts are published before any
reward is asked, so a reward that fails or dies costs no text. A process that finds a batch claimed
goes on to the next, and comes back to see whether it was done.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

from trimtab.decoding.loop import decode
from trimtab.errors import ResultsError, RewardError
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide, LanguageModel
from trimtab.rewards.names import ask
from trimtab.runs.batches import Batch, Item, Policy, as_json
from trimtab.runs.identity import identify
from trimtab.runs.record import Answer, Row, Scored
from trimtab.runs.resolve import OpenModel, Scorer
from trimtab.runs.store import Rewards, Store
from trimtab.types import Completion, Group, Ledger, Response, Step

log = logging.getLogger("trimtab")

PATIENCE = 0.2
"""Seconds between two looks at batches that others work on."""

SHOWN = 80
"""Characters of a prompt or a text that an error shows."""

Stage: TypeAlias = Literal["start", "decode", "score"]


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        stage: "start" (a batch is decoded next), "decode" (responses were finished) or "score" (a
            reward was asked for what is there).
        done: responses that are finished, by whoever and whenever.
        total: responses of the run.
        tokens: tokens of responses that were written during this call.
        batch: key of the batch that this is about; "" where several processes report together.
    """

    stage: Stage
    done: int
    total: int
    tokens: int = 0
    batch: str = ""


OnProgress: TypeAlias = Callable[[Progress], object]


def silent(_: Progress) -> None:
    """For whoever does not want to know how far the work is."""


# --- what rewards say ----------------------------------------------------------------------------

OnRewardError: TypeAlias = Literal["raise", "skip"]
"""What a response does that a reward cannot score.

"raise" ends the run with an error that names it, and keeps what is finished; "skip" leaves its
score out and counts it.
"""


@dataclass(frozen=True)
class Failure:
    """A text that a scorer could not score."""

    scorer: str
    prompt: str
    text: str
    why: str  # what the scorer did instead


@dataclass(frozen=True)
class Scoring:
    """The rewards that a run is to have."""

    scorers: tuple[Scorer, ...] = ()
    again: bool = True  # ask once more for texts that could not be scored before
    stop: bool = False  # raise at the first batch with such a text; its other scores are kept

    def wanting(self, store: Store, batch: Batch) -> Iterator[Scorer]:
        """The rewards that have not said all that they are to say of a batch."""
        for scorer in self.scorers:
            scored = store.scores(scorer.key, batch.key)
            failed = scored is not None and any(row.failed for row in scored)
            if scored is None or _stale(scored, batch) or (self.again and failed):
                yield scorer

    def score(self, store: Store, batch: Batch, scorer: Scorer) -> None:
        """Publish what a reward says of a batch that is claimed; a score that is there stays."""
        rows = store.read(batch.key, ledger=False)
        known = store.scores(scorer.key, batch.key)
        answers: list[list[Answer]] = [[None] * len(row.group.responses) for row in rows]
        if known is not None and not _stale(known, batch):
            answers = [list(row.answers) for row in known]
        places = [(i, j) for i, of_row in enumerate(answers) for j in range(len(of_row))]
        open_ = [(i, j) for i, j in places if not isinstance(answers[i][j], float)]
        samples = [batch.items[i].sample for i, _ in open_]
        texts = [rows[i].group.responses[j].text for i, j in open_]
        for (i, j), answer in zip(open_, ask(scorer.function, samples, texts), strict=True):
            answers[i][j] = answer
        scored = [
            Scored(item.id, item.seen.value, tuple(of_row))
            for item, of_row in zip(batch.items, answers, strict=True)
        ]
        store.write_scores(scorer.key, batch.key, scored)
        failed = _failures(scorer, batch, rows, scored)
        if failed and self.stop:
            raise reward_error(failed, len(places) - len(failed))

    def failures(self, store: Store, batches: Iterable[Batch]) -> list[Failure]:
        """The texts without a score, in the order of scorers and batches."""
        failures = []
        for scorer, batch in product(self.scorers, list(batches)):
            scored = store.scores(scorer.key, batch.key) or []
            if any(row.failed for row in scored):
                rows = store.read(batch.key, ledger=False)
                failures += _failures(scorer, batch, rows, scored)
        return failures


def _stale(scored: Sequence[Scored], batch: Batch) -> bool:
    """Whether the reward saw other topics or references than it would see now."""
    return [row.seen for row in scored] != [item.seen.value for item in batch.items]


def _failures(
    scorer: Scorer, batch: Batch, rows: Sequence[Row], scored: Sequence[Scored]
) -> list[Failure]:
    return [
        Failure(scorer.name, item.sample.text, response.text, answer)
        for item, row, of_row in zip(batch.items, rows, scored, strict=True)
        for response, answer in zip(row.group.responses, of_row.answers, strict=True)
        if isinstance(answer, str)
    ]


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


# --- the work ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """What is to be there, and all that a process needs to do its part of it."""

    folder: Path
    batches: tuple[Batch, ...]
    scoring: Scoring = field(default_factory=Scoring)
    base: Mapping[str, Any] = field(default_factory=dict)  # see `base_of`
    timed: bool = False  # whether the time of each batch is kept
    alternatives: int = 0  # how many of the likeliest candidates of each step are kept

    @property
    def total(self) -> int:
        """Responses of all batches."""
        return sum(batch.responses for batch in self.batches)

    def missing(self, store: Store) -> tuple[Batch, ...]:
        """The batches with something left to do, those that may need most memory first."""
        open_ = [batch for batch in self.batches if not self.settled(store, batch)]
        return tuple(sorted(open_, key=lambda batch: batch.longest, reverse=True))

    def settled(self, store: Store, batch: Batch) -> bool:
        """Whether nothing is left to do for a batch."""
        return store.has(batch.key) and not any(self.scoring.wanting(store, batch))


def base_of(lm: LanguageModel[Any]) -> dict[str, Any]:
    """What identifies a base policy, and how it computes, as JSON types."""
    model = identify(lm)
    base: dict[str, Any] = {
        "model": {"name": model.name, **model.identity()},
        "device": lm.device.type,
    }
    if isinstance(lm, TransformersLM):
        dtype = f"{lm.model.dtype}".removeprefix("torch.")
        base |= {"dtype": dtype, "template": lm.codec.template}
    return base


class StoppedError(Exception):
    """Inside this file: nobody wants the rest any more."""


class Worker:
    """Finishes batches, and tells how far it is; asks before each token whether to stop.

    The base is opened when the first batch is decoded.
    """

    def __init__(
        self,
        work: Work,
        open_lm: OpenModel,
        on: OnProgress = silent,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self.work, self.on, self.stop = work, on, stop
        self.store, self.total = Store(work.folder), work.total
        self.open_lm = cache(open_lm)
        self.done, self.tokens, self.computed = 0, 0, 0
        self.guides: dict[str, Guide[Any]] = {}

    def run(self) -> int:
        """Finish every batch, beside whoever else works on the folder, or stop.

        How many batches this process decoded comes back.
        """
        open_ = self.work.missing(self.store)
        self.done = self.total - sum(batch.responses for batch in open_)
        if self.done:
            self._tell("decode")
        with suppress(StoppedError):
            self._finish(deque(open_))
        return self.computed

    def _finish(self, todo: deque[Batch]) -> None:
        while todo:
            waiting = len(todo)
            for _ in range(waiting):
                batch = todo.popleft()
                self._check()
                with self.store.claim(batch.key) as claimed:
                    if self.work.settled(self.store, batch):  # by another, until just now
                        self._tell("decode", batch.responses, batch.key)
                    elif claimed:
                        self.do(batch)
                    else:
                        todo.append(batch)
            if len(todo) == waiting:
                time.sleep(PATIENCE)

    def do(self, batch: Batch) -> None:
        """Decode a claimed batch where its texts are missing, and ask the rewards that it lacks."""
        decoded = not self.store.has(batch.key)
        if decoded:
            self._tell("start", 0, batch.key)
            started = time.perf_counter()
            rows = self._decode(batch)
            seconds = time.perf_counter() - started
            self.store.write(batch.key, rows, seconds if self.work.timed else None)
            self.computed += 1
        for scorer in self.work.scoring.wanting(self.store, batch):
            self.work.scoring.score(self.store, batch, scorer)
        if not decoded:
            self._tell("score", batch.responses, batch.key)

    def _tell(self, stage: Stage, responses: int = 0, key: str = "") -> None:
        self.done += responses
        self.on(Progress(stage, self.done, self.total, self.tokens, key))

    def _check(self) -> None:
        if self.stop():
            raise StoppedError

    def _decode(self, batch: Batch) -> list[Row]:
        policy = batch.policy
        if policy is None:
            raise ResultsError(
                f"{self.store.record(batch.key)} must be there",
                got="no such file",
                do="run again what made the folder",
            )
        lm = self.open_lm()
        completions = decode(
            lm,
            self._guide(policy, lm),
            policy.method,
            [item.read for item in batch.items],
            n=policy.n,
            seed=policy.seed,
            max_new_tokens=max(item.room or policy.max_new_tokens for item in batch.items),
            alternatives=self.work.alternatives,
            on_step=self._step,
        )
        text_of = cache(lambda token: lm.decode((token,)))
        rows = []
        for i, item in enumerate(batch.items):
            of_item = completions[i * policy.n : (i + 1) * policy.n]
            responses = tuple(_response(lm, item, one, text_of) for one in of_item)
            group = Group(item.prompt, responses, item.sample.topic, item.prefix)
            rows.append(Row(item.id, group, as_json(item.sample.meta)))
        return rows

    def _guide(self, policy: Policy, lm: LanguageModel[Any]) -> Guide[Any] | None:
        """The guide of a policy, opened once."""
        source = policy.guide
        if source is None:
            return None
        if source.fingerprint not in self.guides:
            self.guides[source.fingerprint] = source.open(lm)
        return self.guides[source.fingerprint]

    def _step(self, step: Step) -> None:
        self._check()
        self.tokens += len(step.tokens)
        if step.finish is not None:
            self._tell("decode", 1)


def _response(
    lm: LanguageModel[Any], item: Item, completion: Completion, text_of: Callable[[int], str]
) -> Response:
    """A completion as it is kept: within its item's room, its text with the prefix'.

    Batch-mates with more room may have let it run on; what it drew before is the same.
    """
    tokens, steps = completion.tokens, completion.steps
    text, finish = completion.text, completion.finish
    cut = item.room is not None and len(tokens) > item.room
    if cut:  # rooms differ for token-wise methods alone: a step is a token
        tokens, steps, finish = tokens[: item.room], steps[: item.room], "length"
    if cut or item.prefix:
        text = lm.decode(item.prefix + (tokens[:-1] if finish == "eos" else tokens))
    ledger = Ledger.of(steps)
    alternatives = tuple(
        tuple(replace(one, text=text_of(one.token)) for one in step) for step in ledger.alternatives
    )
    return Response(tokens, text, finish, replace(ledger, alternatives=alternatives))
