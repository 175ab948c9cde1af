"""What is asked: prompts, the samples of a task, and whose token ids a prompt is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: `{"role": "user", "content": "..."}`."""

PromptLike: TypeAlias = "Prompt | str | Sequence[Message]"
"""What a user may pass as a prompt: text, a conversation, or an encoded `Prompt`."""

Split: TypeAlias = Literal["train", "validation", "test", "all"]
"""Which part of a task's prompts; "all" is the three of them together."""


def asked(messages: Sequence[Message]) -> str:
    """What a conversation asks: the last thing the user said, else its last message.

    Words that the assistant has begun with are no question; a response goes on from them.
    """
    texts = [m["content"] for m in messages if m["role"] == "user"]
    return texts[-1] if texts else messages[-1]["content"]


Template: TypeAlias = Literal["auto", "none"]
"""How a base is asked: by its chat template, where it has one, or with the text as it is."""


@dataclass(frozen=True)
class Prompt:
    """A prompt as the base model reads it, beside what the user wrote.

    A guide with its own chat template or tokenizer starts from `messages` or `text`, never from
    the base's string. A conversation may end with the assistant's beginning of an answer: that is
    given, not asked and not written, so it is in `messages` alone, and a response's text is what
    follows it. Guides on prefixes and judges of finished texts see the same.

    Attributes:
        ids: the base model's token ids.
        text: the user's text, when the prompt was plain text (or the last user message).
        messages: the conversation, when the prompt was one.
    """

    ids: tuple[int, ...]
    text: str | None = None
    messages: tuple[Message, ...] | None = None

    def __post_init__(self) -> None:
        ids: Any = self.ids
        if not isinstance(ids, tuple):  # a list, or a tensor
            object.__setattr__(self, "ids", tuple(int(i) for i in ids))


@dataclass(frozen=True)
class Sample:
    """One prompt of a task.

    Attributes:
        prompt: what is asked: text, or a conversation.
        topic: what it is about; samples of one topic are never in two splits.
        meta: whatever else is known of it; `meta["reference"]`, a text or several, is what rewards
            such as ROUGE compare responses with.
    """

    prompt: str | tuple[Message, ...]
    topic: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """What the user asks: the prompt's text, or what the conversation asks (see `asked`)."""
        if isinstance(self.prompt, str):
            return self.prompt
        return asked(self.prompt)


@dataclass(frozen=True)
class Vocab:
    """Whose token ids these are.

    Embeddings are often padded to a round number of rows, and models of one family to different
    ones: Qwen2.5 has 151,665 tokens and 151,936 rows at 0.5B, 152,064 at 7B. Rows past the last
    token stand for nothing.

    Attributes:
        size: number of token ids: a base emits those below it, a guide reads them.
        fingerprint: hash of the tokenizer's token-to-id map; None where there is no tokenizer.
        rows: of the model's embedding, where it is padded past the tokens.
    """

    size: int
    fingerprint: str | None = None
    rows: int | None = None

    def same(self, other: Vocab) -> bool:
        """Whether ids mean the same tokens: by fingerprint where both have one, else by size."""
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        sizes = {self.size, self.rows or self.size}
        return not sizes.isdisjoint({other.size, other.rows or other.size})

    def reads(self, other: Vocab) -> bool:
        """Whether every id that `other` emits is one of these, and means the same token."""
        return self.same(other) and self.size >= other.size


def pad_ids(
    rows: Sequence[Sequence[int]],
    *,
    left: bool = False,
    fill: int = 0,
    device: torch.device | None = None,
) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B"]]:
    """Rows of ids side by side, padded to one length, and their lengths.

    Args:
        rows: of any lengths.
        left: whether padding stands before the ids, not behind them.
        fill: the padding.
        device: where both go.

    >>> pad_ids([[5], [6, 7]])[0].tolist(), pad_ids([[5], [6, 7]], left=True)[0].tolist()
    ([[5, 0], [6, 7]], [[0, 5], [6, 7]])
    """
    longest = max(map(len, rows), default=0)
    tokens = torch.full((len(rows), longest), fill)
    for i, row in enumerate(rows):
        start = longest - len(row) if left else 0
        tokens[i, start : start + len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens.to(device), torch.tensor([len(row) for row in rows], device=device)
