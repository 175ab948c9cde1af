"""The things that flow through a decode: proposals, candidates, steps, completions, random numbers.

Legend of the letters in shapes: B rows (one per sequence), K candidates of a row, L tokens of a
candidate, V vocabulary, N outcomes (the K candidates, and the tail where it is one), R some rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from trimtab.errors import UsageError

Message: TypeAlias = Mapping[str, str]
"""One turn of a conversation: `{"role": "user", "content": "..."}`."""

PromptLike: TypeAlias = "Prompt | str | Sequence[Message]"
"""What a user may pass as a prompt: text, a conversation, or an encoded `Prompt`."""

Split: TypeAlias = Literal["train", "validation", "test", "all"]
"""Which part of a task's prompts; "all" is the three of them together."""

FinishReason: TypeAlias = Literal["eos", "length", "stop"]


@dataclass(frozen=True)
class Prompt:
    """A prompt as the base model reads it, beside what the user wrote.

    A guide with its own chat template or tokenizer starts from `messages` or `text`, never from
    the base's string.

    Attributes:
        ids: the base model's token ids.
        text: the user's text, when the prompt was plain text (or the last user message).
        messages: the conversation, when the prompt was one.
    """

    ids: tuple[int, ...]
    text: str | None = None
    messages: tuple[Message, ...] | None = None


@dataclass(frozen=True)
class Sample:
    """One prompt of a task.

    Attributes:
        prompt: what is asked: text, or a conversation.
        topic: what it is about; samples of one topic are never in two splits.
        meta: whatever else is known of it.
    """

    prompt: str | tuple[Message, ...]
    topic: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Vocab:
    """Whose token ids these are.

    Attributes:
        size: number of token ids a model scores.
        fingerprint: hash of the tokenizer's token-to-id map; None where there is no tokenizer.
    """

    size: int
    fingerprint: str | None = None

    def same(self, other: Vocab) -> bool:
        """Whether ids mean the same tokens: by fingerprint where both have one, else by size."""
        if self.fingerprint and other.fingerprint:
            return self.fingerprint == other.fingerprint
        return self.size == other.size


# --- what the base model is asked for ------------------------------------------------------------


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise UsageError(f"{name} must be at least 1", got=f"{value}", do="pass a larger one")


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
    tail: Literal["drop", "mean"] = "drop"

    def __post_init__(self) -> None:
        _at_least_one("k", self.k)


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
        _at_least_one("n", self.n)
        _at_least_one("length", self.length if self.length is not None else 1)

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
        tail: what the proposal left out, when it is an outcome of its own.
        ends: for each continuation whether it ends in one of the model's EOS tokens.
    """

    tokens: Int[Tensor, "B K L"]
    logprobs: Float[Tensor, "B K"]
    lengths: Int[Tensor, "B K"]
    ends: Bool[Tensor, "B K"]
    tail: Tail | None = None

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
        return Candidates(self.tokens[at], self.logprobs[at], self.lengths[at], self.ends[at], tail)


# --- what comes out ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Alternative:
    """A token that could have been chosen.

    Attributes:
        token: its id.
        ref_logprob: log pi_ref of it.
        score: the guide's score of it.
        logprob: log pi of it, after rule, temperature and nucleus.
    """

    token: int
    ref_logprob: float
    score: float
    logprob: float


@dataclass(frozen=True)
class Step:
    """What one row gained in one turn of the loop; plain numbers, ready to stream.

    Attributes:
        row: index of the sequence among all of the call (prompt-major: prompt i, sample j is
            row `i * n + j`).
        tokens: the ids appended: one for token-wise methods, several for blocks.
        text: what they add to the text (complete characters only).
        logprob: log pi of the choice (nats).
        ref_logprob: log pi_ref of the choice (nats).
        score: the guide's score of the choice (for the tail: the mean of the k).
        kl: exact KL(pi || pi_ref) of this step in nats; None for sampled blocks, whose law has
            no closed form.
        alternatives: the likeliest candidates under pi, when asked for.
        base_tokens: the row's share of the tokens that the base model read for this step.
        guide_tokens: the row's share of the tokens that the guide read for this step.
        failed: the guide's scores were not finite and the base policy chose alone
            (`on_guide_error="base"`).
        finish: set on the row's last step.
    """

    row: int
    tokens: tuple[int, ...]
    text: str
    logprob: float
    ref_logprob: float
    score: float
    kl: float | None
    alternatives: tuple[Alternative, ...]
    base_tokens: float
    guide_tokens: float
    failed: bool = False
    finish: FinishReason | None = None


@dataclass(frozen=True)
class Completion:
    """One finished response with its ledger. Per-step lists have one entry per turn of the loop.

    Attributes:
        prompt: what it answers.
        sample: which of the n samples of that prompt.
        text: the response, without EOS and cut before a stop string.
        tokens: all token ids, EOS and stop string included.
        finish: why it ended: "eos", "length" (token budget) or "stop" (stop string).
        steps: the turns that made it.
    """

    prompt: Prompt
    sample: int
    text: str
    tokens: tuple[int, ...]
    finish: FinishReason
    steps: tuple[Step, ...] = field(repr=False)

    @property
    def kl(self) -> float | None:
        """Sum over steps of the exact KL(pi || pi_ref), in nats; None if any step has none."""
        parts = [step.kl for step in self.steps]
        return None if None in parts else sum(part for part in parts if part is not None)

    @property
    def logprob(self) -> float:
        """log pi of the response (nats)."""
        return sum(step.logprob for step in self.steps)

    @property
    def ref_logprob(self) -> float:
        """log pi_ref of the response (nats)."""
        return sum(step.ref_logprob for step in self.steps)

    @property
    def base_tokens(self) -> float:
        """Tokens the base model read for this row after the prompt."""
        return sum(step.base_tokens for step in self.steps)

    @property
    def guide_tokens(self) -> float:
        """Tokens the guide read for this row after the prompt."""
        return sum(step.guide_tokens for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The completion and its ledger as plain JSON types."""
        return {
            "prompt": self.prompt.text,
            "messages": self.prompt.messages and [dict(m) for m in self.prompt.messages],
            "sample": self.sample,
            "text": self.text,
            "finish": self.finish,
            "tokens": list(self.tokens),
            "kl": self.kl,
            "logprob": self.logprob,
            "ref_logprob": self.ref_logprob,
            "base_tokens": self.base_tokens,
            "guide_tokens": self.guide_tokens,
            "steps": [
                {
                    "tokens": list(step.tokens),
                    "text": step.text,
                    "score": step.score,
                    "kl": step.kl,
                    "logprob": step.logprob,
                    "ref_logprob": step.ref_logprob,
                    "alternatives": [vars(a) for a in step.alternatives],
                }
                for step in self.steps
            ],
        }


@dataclass
class Cost:
    """How many tokens a model or guide has read since it was made; only ever grows.

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
