"""The one loop that does what is missing of a run: claim a batch, decode it, publish, score.

A batch is claimed by a lock that its process' death frees. Its texts are published before any
reward is asked, so a reward that fails or dies costs no text. A process that finds a batch claimed
goes on to the next, and comes back to see whether it was done.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from trimtab.decoding.loop import decode
from trimtab.errors import ResultsError
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide, LanguageModel
from trimtab.runs.batches import Batch, Item, Policy
from trimtab.runs.identity import identify
from trimtab.runs.progress import OnProgress, Progress, Stage, silent
from trimtab.runs.record import Row, as_json, with_texts
from trimtab.runs.resolve import OpenModel
from trimtab.runs.scoring import Scoring
from trimtab.runs.store import Store
from trimtab.types import Completion, Group, Ledger, Response, Step

log = logging.getLogger("trimtab")

PATIENCE = 0.2
"""Seconds between two looks at batches that others work on."""


@dataclass(frozen=True)
class Work:
    """What is to be there, and all that a process needs to do its part of it.

    Attributes:
        folder: the run's.
        batches: what is to be there.
        scoring: the rewards that each batch is to have.
        base: what identifies the base and how it computes, see `base_of`.
        timed: whether the time of each batch is kept.
        alternatives: how many of the likeliest candidates of each step are kept.
    """

    folder: Path
    batches: tuple[Batch, ...]
    scoring: Scoring = field(default_factory=Scoring)
    base: Mapping[str, Any] = field(default_factory=dict)
    timed: bool = False
    alternatives: int = 0

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
    """Finishes batches, and tells how far it is.

    Args:
        work: what is to be there.
        open_lm: gives the base, asked when the first batch is decoded.
        on: told about every response.
        stop: asked before each token and each batch whether to stop.
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
        """Finish every batch, beside whoever else works on the folder; or stop.

        Returns:
            How many batches this process decoded.
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

    # --- decoding --------------------------------------------------------------------------------

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
            responses = tuple(with_texts(_response(lm, item, c), text_of) for c in of_item)
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


def _response(lm: LanguageModel[Any], item: Item, completion: Completion) -> Response:
    """A completion as it is kept: within its item's room, its text with the prefix'.

    Batch-mates with more room may have let it run on; what it drew before is the same.
    """
    response = Response.of(completion)
    cut = item.room is not None and len(response.tokens) > item.room
    if not (cut or item.prefix):
        return response
    tokens, finish = response.tokens, response.finish
    ledger = response.ledger
    if cut:  # rooms differ for token-wise methods alone: a step is a token
        tokens, finish = tokens[: item.room], "length"
        ledger = Ledger.of(completion.steps[: item.room])
    shown: Sequence[int] = tokens[:-1] if finish == "eos" else tokens
    return Response(tokens, lm.decode(item.prefix + tuple(shown)), finish, ledger)
