"""What goes into a decode: prompts, proposals, candidates, and the cost of reading.

Legend: B rows (one per sequence), K candidates of a row, L tokens of a candidate, R some rows.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.errors import check_whole, check_word

# --- prompts -------------------------------------------------------------------------------------

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: `{"role": "user", "content": "..."}`."""

PromptLike: TypeAlias = "Prompt | str | Sequence[Message]"
"""What a user may pass as a prompt: text, a conversation, or an encoded `Prompt`."""

Split: TypeAlias = Literal["train", "validation", "test", "all"]
"""Which part of a task's prompts; "all" is the three of them together."""

Template: TypeAlias = Literal["auto", "none"]
"""How a base is asked: by its chat template, where it has one, or with the text as it is."""


def asked(messages: Sequence[Message]) -> str:
    """What a conversation asks: the last thing the user said, else its last message.

    Words that the assistant has begun with are no question; a response goes on from them.
    """
    texts = [m["content"] for m in messages if m["role"] == "user"]
    return texts[-1] if texts else messages[-1]["content"]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the base model reads it, beside what the user wrote.

    A guide with its own chat template or tokenizer starts from `messages` or `text`, never from
    the base's string. A conversation may end with the assistant's beginning of an answer: that is
    given, not asked and not written, so it is in `messages` alone, and a response's text is what
    follows it.

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
        return self.prompt if isinstance(self.prompt, str) else asked(self.prompt)


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
    """Rows of ids side by side, padded by `fill` behind (or `left` of) them, and their lengths.

    >>> pad_ids([[5], [6, 7]])[0].tolist(), pad_ids([[5], [6, 7]], left=True)[0].tolist()
    ([[5, 0], [6, 7]], [[0, 5], [6, 7]])
    """
    longest = max(map(len, rows), default=0)
    tokens = torch.full((len(rows), longest), fill)
    for i, row in enumerate(rows):
        start = longest - len(row) if left else 0
        tokens[i, start : start + len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens.to(device), torch.tensor([len(row) for row in rows], device=device)


def is_eos(tokens: Int[Tensor, "*shape"], eos_ids: frozenset[int]) -> Bool[Tensor, "*shape"]:
    """Which tokens end a response."""
    ends = torch.zeros_like(tokens, dtype=torch.bool)
    for eos in eos_ids:
        ends |= tokens == eos
    return ends


# --- proposals and candidates --------------------------------------------------------------------

Outside: TypeAlias = Literal["drop", "mean"]
"""What becomes of the tokens outside the k."""


@dataclass(frozen=True)
class TopK:
    """The k likeliest next tokens.

    Attributes:
        k: number of candidates.
        tail: what becomes of all other tokens. "drop" gives them no chance (ARGS, PARGS, RAD,
            FUDGE). "mean" gives them the mean score of the k (VAS, Eq. 5): together they are one
            more outcome, inside which the base model draws.
    """

    k: int
    tail: Outside = "drop"

    def __post_init__(self) -> None:
        check_word("tail", self.tail, Outside)
        check_whole("k", self.k, 1)


@dataclass(frozen=True)
class Samples:
    """n continuations drawn from the base model (blockwise methods, best-of-n).

    Attributes:
        n: number of continuations.
        length: tokens of each; None means up to the token budget. One that draws EOS ends there.
    """

    n: int
    length: int | None = None

    def __post_init__(self) -> None:
        check_whole("n", self.n, 1)
        if self.length is not None:
            check_whole("length", self.length, 1)

    def within(self, room: int) -> Samples:
        """The same, no longer than the tokens that are left."""
        return Samples(self.n, room if self.length is None else min(self.length, room))


@dataclass(frozen=True)
class Vocabulary:
    """Every token of the vocabulary is a candidate."""


Proposal: TypeAlias = TopK | Samples | Vocabulary


@dataclass(frozen=True)
class Tail:
    """All that a `TopK` proposal left out, known without the full vocabulary's logits.

    Attributes:
        logprob: log of the mass outside the k; -inf when the k are the whole vocabulary.
        best_token: the likeliest token outside the k (greedy compares this one, not the mass).
        best_logprob: its log-probability.
    """

    logprob: Float[Tensor, "B"]
    best_token: Int[Tensor, "B"]
    best_logprob: Float[Tensor, "B"]


@dataclass(frozen=True)
class Candidates:
    """Continuations of each row's prefix with their log-probabilities under pi_ref.

    Attributes:
        tokens: token ids, right-padded where lengths differ.
        logprobs: log pi_ref of each whole continuation; -inf marks one that cannot be chosen.
        lengths: number of tokens of each continuation.
        ends: for each continuation whether it ends in one of the model's EOS tokens.
        tail: what the proposal left out, when it is an outcome of its own.
        states: the base's hidden states [B, D] behind each row's prefix, by layer, where a guide
            reads them.
    """

    tokens: Int[Tensor, "B K L"]
    logprobs: Float[Tensor, "B K"]
    lengths: Int[Tensor, "B K"]
    ends: Bool[Tensor, "B K"]
    tail: Tail | None = None
    states: Mapping[int, Float[Tensor, "B D"]] = field(default_factory=dict)

    @property
    def possible(self) -> Bool[Tensor, "B K"]:
        """Which candidates have a chance under pi_ref; a nucleus may hold fewer than K."""
        return ~torch.isneginf(self.logprobs)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(B, K, L)."""
        b, k, length = self.tokens.shape
        return b, k, length

    def take(self, index: Int[Tensor, "B"]) -> tuple[Int[Tensor, "B L"], Int[Tensor, "B"]]:
        """Tokens and lengths of one candidate per row."""
        rows = torch.arange(len(index), device=index.device)
        return self.tokens[rows, index], self.lengths[rows, index]

    def select(self, rows: Int[Tensor, "R"]) -> Candidates:
        """The candidates of some rows."""
        at = rows.to(self.tokens.device)
        tail = self.tail and Tail(
            self.tail.logprob[at], self.tail.best_token[at], self.tail.best_logprob[at]
        )
        states = {layer: rows[at] for layer, rows in self.states.items()}
        return Candidates(
            self.tokens[at], self.logprobs[at], self.lengths[at], self.ends[at], tail, states
        )


# --- costs ---------------------------------------------------------------------------------------

_ADDING = threading.RLock()
_tallies: ContextVar[tuple[Tally, ...]] = ContextVar("tallies", default=())
"""Those of the calls that this thread is in."""


@dataclass(frozen=True)
class Cost:
    """How many tokens a model or guide has read since it was made; only ever grows, by `add`.

    Attributes:
        prefill: prompt tokens.
        scored: candidate tokens.
        extended: chosen tokens read on their own.
        recomputed: prefix tokens read a second time (0 wherever there is a cache).
        forwards: forward passes.
    """

    prefill: int = 0
    scored: int = 0
    extended: int = 0
    recomputed: int = 0
    forwards: int = 0

    @property
    def decoding(self) -> int:
        """Tokens read after the prompt."""
        return self.scored + self.extended + self.recomputed

    @property
    def parts(self) -> tuple[Cost, ...]:
        """The counters that it is the sum of: itself alone."""
        return (self,)

    def add(
        self,
        *,
        prefill: int = 0,
        scored: int = 0,
        extended: int = 0,
        recomputed: int = 0,
        forwards: int = 0,
    ) -> None:
        """Count what was read; call it in the thread that was asked to read.

        Any number of threads may add: nothing is lost, and each call of `decode` gets its own.
        """
        counts = self.__dict__  # frozen for all but this
        with _ADDING:
            counts["prefill"] += prefill
            counts["scored"] += scored
            counts["extended"] += extended
            counts["recomputed"] += recomputed
            counts["forwards"] += forwards
        for tally in _tallies.get():
            tally.note(self, scored + extended + recomputed)


class TotalCost(Cost):
    """The sum of several counters as it is now; one that occurs twice counts once."""

    def __init__(self, costs: Iterable[Cost]) -> None:
        parts = {id(part): part for cost in costs for part in cost.parts}.values()
        super().__init__(*(sum(getattr(part, f.name) for part in parts) for f in fields(Cost)))
        self.__dict__["_parts"] = tuple(parts)

    @property
    def parts(self) -> tuple[Cost, ...]:
        """The counters that it is the sum of."""
        parts: tuple[Cost, ...] = self.__dict__["_parts"]
        return parts


class Tally:
    """Tokens after the prompt that one call reads, by counter, whoever else reads meanwhile."""

    def __init__(self) -> None:
        self._read: Counter[int] = Counter()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """While it lasts, what this thread reads is this call's."""
        outer = _tallies.set((*_tallies.get(), self))
        try:
            yield
        finally:
            _tallies.reset(outer)

    def note(self, cost: Cost, tokens: int) -> None:
        """`cost` grew."""
        self._read[id(cost)] += tokens

    def of(self, cost: Cost) -> int:
        """What was read by those whom `cost` counts, since the beginning."""
        return sum(self._read[id(part)] for part in cost.parts)
