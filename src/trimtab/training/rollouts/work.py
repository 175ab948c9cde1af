"""Doing what is missing of a folder: one process or several, which may be killed at any moment.

A shard is claimed by a lock that its process' death frees. Its texts are published before any
reward is asked, so a reward that fails or dies costs no text.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import torch

from trimtab.errors import DataError
from trimtab.evaluation.scoring import Failure, reward_error
from trimtab.evaluation.work import PATIENCE
from trimtab.rewards import ask
from trimtab.runs.resolve import Scorer
from trimtab.training.folder import GroupFolder
from trimtab.training.rollouts.decoding import Roller
from trimtab.training.rollouts.jobs import Shard, sample_of
from trimtab.training.shards import Row, Said, load_rows, load_scores, measure
from trimtab.types import Sample, Step


@dataclass(frozen=True)
class Progress:
    """How far the work is.

    Attributes:
        done: responses that are finished, by whoever and whenever.
        total: responses of the folder.
        tokens: tokens of responses that were finished during this call.
    """

    done: int
    total: int
    tokens: int


OnProgress: TypeAlias = Callable[[Progress], object]


@dataclass(frozen=True)
class Labels:
    """The rewards that a folder is to have.

    Attributes:
        scorers: the rewards.
        strict: a response that cannot be scored is an error; where it is none, it is left out, and
            those that were left out before are not asked again.
    """

    scorers: tuple[Scorer, ...]
    strict: bool

    def settled(self, folder: GroupFolder, shard: int) -> bool:
        """Whether nothing is left to do for a shard."""
        return folder.groups(shard).exists() and not any(self.open(folder, shard))

    def open(self, folder: GroupFolder, shard: int) -> Iterator[Scorer]:
        """The rewards that have not said all that they are to say of a shard."""
        for scorer in self.scorers:
            path = folder.scores(scorer.key, shard)
            if not path.exists() or (self.strict and _failed(load_scores(path))):
                yield scorer


def _failed(said: Sequence[Sequence[Said]]) -> bool:
    return any(isinstance(x, str) for of_row in said for x in of_row)


class StoppedError(Exception):
    """Inside this file: nobody wants the rest any more."""


def _never() -> bool:
    return False


# --- one process ---------------------------------------------------------------------------------


class Worker:
    """Finishes shards, and tells how far it is.

    Args:
        folder: where.
        labels: the rewards.
        total: responses of the folder.
        on: told about every response.
        roll: decodes a shard; None where all texts are there.
        stop: asked before each token and each shard whether to stop.
    """

    def __init__(
        self,
        folder: GroupFolder,
        labels: Labels,
        total: int,
        on: OnProgress,
        roll: Roller | None = None,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self.folder, self.labels, self.roll = folder, labels, roll
        self.total, self.done, self.tokens, self.on = total, 0, 0, on
        self.stop = stop or _never

    def work(self, shards: Sequence[Shard]) -> None:
        """Finish every shard, beside whoever else works on the folder; or stop."""
        try:
            self._work(shards)
        except StoppedError:
            return

    def _work(self, shards: Sequence[Shard]) -> None:
        todo = deque(shard for shard in shards if not self._there(shard, fresh=False))
        while todo:
            waiting = len(todo)
            for _ in range(waiting):
                shard = todo.popleft()
                self._check()
                if self._there(shard):
                    continue
                with self.folder.claim(f"{shard.number:05d}") as mine:
                    if self._there(shard):  # asked again: it may have been finished just now
                        continue
                    if not mine:
                        todo.append(shard)
                        continue
                    self._finish(shard)
            if len(todo) == waiting:
                time.sleep(PATIENCE)

    def _there(self, shard: Shard, *, fresh: bool = True) -> bool:
        if not self.labels.settled(self.folder, shard.number):
            return False
        responses, tokens = measure(self.folder.groups(shard.number))
        self._say(responses, tokens if fresh else 0)
        return True

    def _say(self, responses: int, tokens: int) -> None:
        self.done, self.tokens = self.done + responses, self.tokens + tokens
        self.on(Progress(self.done, self.total, self.tokens))

    def _check(self) -> None:
        if self.stop():
            raise StoppedError

    def _step(self, step: Step) -> None:
        self._check()
        self.tokens += len(step.tokens)
        if step.finish is not None:
            self._say(1, 0)

    def _finish(self, shard: Shard) -> None:
        path, decoded = self.folder.groups(shard.number), False
        if not path.exists():
            if self.roll is None:
                raise DataError(f"{path} must be there", got="no such file", do="collect it again")
            self.folder.write_rows(shard.number, self.roll(shard, self._step))
            decoded = True
        rows = load_rows(path)  # rewards see what those that are added later will see
        for scorer in self.labels.open(self.folder, shard.number):
            score(self.folder, shard.number, rows, scorer, strict=self.labels.strict)
        if not decoded:
            self._say(sum(len(row.group.responses) for row in rows), 0)


def score(
    folder: GroupFolder, shard: int, rows: Sequence[Row], scorer: Scorer, *, strict: bool
) -> None:
    """Publish what a reward says of a shard's responses; those it has scored are not asked again.

    Raises:
        RewardError: it could not score one and `strict` is set; the other scores are kept.
    """
    path = folder.scores(scorer.key, shard)
    known: list[list[Said]] = [[None] * len(row.group.responses) for row in rows]
    if path.exists():
        known = load_scores(path)
    places = [(i, j) for i, said in enumerate(known) for j in range(len(said))]
    asked = [(i, j) for i, j in places if not isinstance(known[i][j], float)]
    samples: list[Sample] = [
        sample_of(rows[i].group.prompt, rows[i].group.topic, rows[i].meta) for i, _ in asked
    ]
    texts = [rows[i].group.responses[j].text for i, j in asked]
    failures = []
    answers = ask(scorer.function, samples, texts)
    for (i, j), sample, text, answer in zip(asked, samples, texts, answers, strict=True):
        known[i][j] = answer
        if isinstance(answer, str):
            failures.append(Failure(scorer.name, sample.text, text, answer))
    folder.write_scores(scorer.key, shard, rows, known)
    if failures and strict:
        raise reward_error(failures, len(places) - len(failures))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads, as in every other process of the job; as before, afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
