"""From a batch of items to rows of a shard: the one place where rollouts meet the decode loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from trimtab.decoding.loop import decode
from trimtab.protocols import Guide, LanguageModel
from trimtab.training.rollouts.jobs import Item, Job, Shard
from trimtab.training.shards import Row
from trimtab.types import Completion, FinishReason, Group, Response, Samples, Step


class Roller:
    """Decodes shards of a job.

    Args:
        lm: the base.
        job: what is decoded.
        guide: the job's guide, where it is open already; else it is opened when it is needed.
    """

    def __init__(self, lm: LanguageModel[Any], job: Job, guide: Guide[Any] | None = None) -> None:
        self.lm, self.job, self._guide = lm, job, guide

    def __call__(self, shard: Shard, on_step: Callable[[Step], object]) -> list[Row]:
        """The shard's groups, without rewards."""
        return [row for batch in shard.batches for row in self._batch(batch, on_step)]

    def _batch(self, items: Sequence[Item], on_step: Callable[[Step], object]) -> list[Row]:
        job = self.job
        if self._guide is None and job.guide is not None:
            self._guide = job.guide.open(self.lm)
        done = decode(
            self.lm,
            self._guide,
            job.method,
            [item.read for item in items],
            n=job.n,
            seed=job.seed,
            max_new_tokens=max(item.room for item in items),
            on_step=on_step,
        )
        return [self._row(item, done[i * job.n : (i + 1) * job.n]) for i, item in enumerate(items)]

    def _row(self, item: Item, done: Sequence[Completion]) -> Row:
        responses = tuple(self._response(item, completion) for completion in done)
        group = Group(item.prompt, responses, item.topic, item.prefix)
        return Row(item.index, group, item.meta)

    def _response(self, item: Item, done: Completion) -> Response:
        """A completion as it is kept: within its item's room, its text with the prefix'.

        Batch-mates with more room may have let it run on; what it drew before is the same.
        """
        tokens, finish, text = done.tokens[: item.room], done.finish, done.text
        if len(done.tokens) > item.room:
            finish = "length"
        if item.prefix or len(done.tokens) > item.room:
            text = self.lm.decode(item.prefix + _without_eos(tokens, finish))
        return Response(tokens, text, finish, self._logprobs(done)[: item.room])

    def _logprobs(self, done: Completion) -> tuple[float, ...]:
        """log pi of each token; none where whole blocks are chosen, whose tokens have no law."""
        if isinstance(self.job.method.proposal, Samples):
            return ()
        return tuple(step.logprob for step in done.steps)


def _without_eos(tokens: tuple[int, ...], finish: FinishReason) -> tuple[int, ...]:
    return tokens[:-1] if finish == "eos" else tokens
