"""What is collected: prompts, cut into fixed batches and shards that no process count changes.

A batch is decoded together, and a shard is published together. The cut depends on the prompts and
on `rows` alone: texts would not change with their batch-mates, but the last bits of their
log-probabilities might.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from trimtab.decoding.methods import Method
from trimtab.errors import PromptError, UsageError
from trimtab.evaluation.cells import describe
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import LanguageModel
from trimtab.runs.identity import canonical, identify
from trimtab.runs.resolve import GuideSource
from trimtab.types import Prompt, Sample, Samples

log = logging.getLogger("trimtab")

SHARDS = 256
"""Most shards of a folder: of much work, a shard holds several batches, and a kill costs one."""


@dataclass(frozen=True)
class Item:
    """What one group answers.

    Attributes:
        index: its place among all items of the job.
        prompt: what is asked, encoded for the base.
        topic: of the task's sample.
        room: most tokens of a response.
        meta: of the task's sample, as JSON types.
        prefix: ids that open every response.
    """

    index: int
    prompt: Prompt
    topic: str
    room: int
    meta: Mapping[str, Any] = field(default_factory=dict)
    prefix: tuple[int, ...] = ()

    @property
    def read(self) -> Prompt:
        """What the base reads before it goes on."""
        if not self.prefix:
            return self.prompt
        return Prompt(self.prompt.ids + self.prefix, self.prompt.text, self.prompt.messages)

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        messages = self.prompt.messages and [dict(m) for m in self.prompt.messages]
        return {
            "ids": self.prompt.ids,
            "text": self.prompt.text,
            "messages": messages,
            "topic": self.topic,
            "room": self.room,
            "meta": self.meta,
            "prefix": self.prefix,
        }


@dataclass(frozen=True)
class Shard:
    """Batches of items that are published together.

    Attributes:
        number: its place, and its file's name.
        batches: the items that are decoded side by side.
    """

    number: int
    batches: tuple[tuple[Item, ...], ...] = ()


@dataclass(frozen=True)
class Job:
    """All that the texts of a folder depend on.

    Attributes:
        base: what identifies the base policy and how it computes, as JSON types.
        method: decoding method.
        guide: what guides it; None where it needs none.
        items: what is answered.
        n: responses to each.
        seed: with the prompt and the sample's number, decides every draw.
        rows: most rows that are decoded side by side.
        threads: CPU threads of each process.
        said: more facts for the manifest, such as where the prompts came from.
    """

    base: Mapping[str, Any]
    method: Method
    guide: GuideSource | None
    items: tuple[Item, ...]
    n: int
    seed: int
    rows: int
    threads: int
    said: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name in ("n", "rows", "threads"):
            if getattr(self, name) < 1:
                value = f"{getattr(self, name)}"
                raise UsageError(f"{name} must be at least 1", got=value, do="raise it")

    @cached_property
    def shards(self) -> tuple[Shard, ...]:
        """The work, the longest first: whether memory suffices shows at once."""
        draws = self.method.proposal.n if isinstance(self.method.proposal, Samples) else 1
        size = max(1, self.rows // (self.n * draws))
        order = sorted(self.items, key=lambda i: (-i.room, -len(i.read.ids), i.index))
        batches = [tuple(order[i : i + size]) for i in range(0, len(order), size)]
        per = -(-len(batches) // SHARDS)
        cut = [tuple(batches[i : i + per]) for i in range(0, len(batches), per)]
        return tuple(Shard(number, of_shard) for number, of_shard in enumerate(cut))

    def about(self, unknown: list[str] | None = None) -> dict[str, Any]:
        """What the manifest says made the groups; `unknown` as of `describe`."""
        guide = self.guide and {"name": self.guide.name, "fingerprint": self.guide.fingerprint}
        content = canonical([item.as_dict() for item in self.items])
        said = dict(self.said)
        prompts = {
            "source": said.pop("source"),
            "count": len(self.items),
            "sha256": hashlib.sha256(content.encode()).hexdigest(),
        }
        return {
            **self.base,
            **said,
            "method": describe(self.method, unknown),
            "guide": guide,
            "prompts": prompts,
            "n": self.n,
            "seed": self.seed,
            "rows": self.rows,
            "threads": self.threads,
        }


def base_of(lm: LanguageModel[Any]) -> dict[str, Any]:
    """What identifies a base policy, and how it computes; for the manifest."""
    model = identify(lm)
    named = {"name": model.name, **model.identity()}
    found: dict[str, Any] = {"model": named, "device": lm.device.type}
    if isinstance(lm, TransformersLM):
        dtype = str(lm.model.dtype).removeprefix("torch.")
        found |= {"dtype": dtype, "template": lm.codec.template}
    return found


def items_of(
    lm: LanguageModel[Any], samples: Iterable[Sample], room: int, limit: int | None = None
) -> tuple[Item, ...]:
    """The samples' prompts, encoded, each once: a prompt twice would get the same texts twice.

    Args:
        lm: whose ids.
        samples: in their order.
        room: most tokens of a response.
        limit: the first so many; None takes all.

    Raises:
        PromptError: there are none, or one cannot be encoded.
        UsageError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise UsageError("limit must be at least 1", got=f"{limit}", do="raise it")
    found: dict[tuple[int, ...], Item] = {}
    twice = 0
    for sample in samples:
        prompt = lm.encode(sample.prompt)
        twice += prompt.ids in found
        if prompt.ids not in found:
            found[prompt.ids] = Item(len(found), prompt, sample.topic, room, _json(sample.meta))
    if twice:
        log.warning("prompts that occur again are asked once: %d were passed over", twice)
    if not found:
        raise PromptError("there must be prompts", got="none", do="name another file or split")
    return tuple(found.values())[:limit]


def _json(meta: Mapping[str, Any]) -> Any:
    """What comes back when it is read from the folder; other things become their text."""
    return json.loads(json.dumps(meta, default=str, sort_keys=True))


def sample_of(prompt: Prompt, topic: str, meta: Mapping[str, Any]) -> Sample:
    """What rewards see of a prompt: its text, or the conversation where it is more than a text.

    It is made from what the folder holds, so that a reward that is added later sees the same.
    """
    turns: Sequence[Mapping[str, str]] = prompt.messages or ()
    plain = prompt.text is not None and (
        not turns or (len(turns) == 1 and turns[0].get("role") == "user")
    )
    asked = prompt.text if plain else tuple(turns)
    return Sample(asked or "", topic, meta)
