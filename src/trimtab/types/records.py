"""What comes out of a decode: steps, completions, and the one record that is kept of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Literal, TypeAlias

from trimtab.errors import DataError, check_word
from trimtab.types.html import TintedToken, text_html
from trimtab.types.inputs import Prompt

FinishReason: TypeAlias = Literal["eos", "length", "stop"]


@dataclass(frozen=True)
class Alternative:
    """A token that could have been chosen.

    Attributes:
        token: its id.
        ref_logprob: log pi_ref of it.
        score: the guide's score of it.
        logprob: log pi of it, after rule, temperature and nucleus.
        text: the token as text, filled in where a response is recorded; "" while it is decoded.
    """

    token: int
    ref_logprob: float
    score: float
    logprob: float
    text: str = ""


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

    def tinted(self, guided: bool) -> TintedToken:
        """The step as a page or a notebook shows it: without a guide, no push and no score."""
        single = self.kl is not None  # of a block, `logprob` is that of the choice, not the text's
        return TintedToken(
            self.text,
            self.logprob - self.ref_logprob if guided and single else None,
            self.score if guided else None,
            self.logprob if single else None,
            tuple(
                (a.text or str(a.token), a.ref_logprob, a.score, a.logprob)
                for a in self.alternatives
            ),
        )


@dataclass(frozen=True)
class Completion:
    """One finished response with its ledger.

    Attributes:
        prompt: what it answers.
        sample: which of the n samples of that prompt.
        text: the response, without EOS and cut before a stop string.
        tokens: all token ids, EOS and stop string included.
        finish: why it ended: "eos", "length" (token budget) or "stop" (stop string).
        steps: the turns of the loop that made it.
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
        return _sum_or_none([step.kl for step in self.steps])

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

    def _repr_html_(self) -> str:
        guided = any(step.guide_tokens for step in self.steps)
        kl = "" if self.kl is None else f"KL {self.kl:.2f} nats, "
        facts = f"{kl}{len(self.tokens)} tokens, finish: {self.finish}"
        return text_html((step.tinted(guided) for step in self.steps), facts)

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


def _sum_or_none(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


# --- the record ----------------------------------------------------------------------------------

_COLUMNS = {
    "text": "texts", "logprob": "logprobs", "ref_logprob": "ref_logprobs", "score": "scores",
    "kl": "kl", "base_tokens": "base_tokens", "guide_tokens": "guide_tokens", "failed": "failed",
}  # fmt: skip
"""The column of a `Ledger` in which a field of a `Step` stands."""


@dataclass(frozen=True)
class Ledger:
    """What a decode wrote down beside a response's tokens, in columns of one entry per step.

    A step is one token, or one block where whole blocks are chosen. The columns are the fields of a
    `Step`, in its units.

    Attributes:
        lengths: tokens of each step.
        alternatives: the likeliest candidates of each step; () where none were asked for.
    """

    lengths: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    logprobs: tuple[float, ...] = ()
    ref_logprobs: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()
    kl: tuple[float | None, ...] = ()
    base_tokens: tuple[float, ...] = ()
    guide_tokens: tuple[float, ...] = ()
    failed: tuple[bool, ...] = ()
    alternatives: tuple[tuple[Alternative, ...], ...] = ()

    @classmethod
    def of(cls, steps: Sequence[Step]) -> Ledger:
        """The columns of some steps."""
        lengths = tuple(len(step.tokens) for step in steps)
        columns: dict[str, Any] = {
            column: tuple(getattr(step, name) for step in steps)
            for name, column in _COLUMNS.items()
        }
        alternatives = tuple(step.alternatives for step in steps)
        return cls(lengths, **columns, alternatives=alternatives if any(alternatives) else ())

    def steps(self, tokens: Sequence[int], finish: FinishReason, row: int = 0) -> tuple[Step, ...]:
        """The reverse of `of`: steps share out a response's tokens, and the last one ends it."""
        ends = list(accumulate(self.lengths))
        return tuple(
            Step(
                row=row,
                tokens=tuple(tokens[end - length : end]),
                alternatives=self.alternatives[i] if self.alternatives else (),
                finish=finish if i == len(ends) - 1 else None,
                **{name: getattr(self, column)[i] for name, column in _COLUMNS.items()},
            )
            for i, (length, end) in enumerate(zip(self.lengths, ends, strict=True))
        )


@dataclass(frozen=True)
class Response:
    """One response to a prompt, as it was written.

    Attributes:
        tokens: ids after the prompt (and after the group's `prefix`), EOS included where it ended
            so.
        text: the whole response without EOS, the group's `prefix` included: what rewards see.
        finish: why it ended; None for text that no model of ours wrote.
        ledger: log-probabilities, scores, KL and cost of each step; None for text that no model of
            ours wrote, or where it was not read.
        rewards: by name.
    """

    tokens: tuple[int, ...]
    text: str
    finish: FinishReason | None = None
    ledger: Ledger | None = None
    rewards: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.finish is not None:
            check_word("finish", self.finish, FinishReason)

    @classmethod
    def of(cls, completion: Completion) -> Response:
        """A completion without its prompt: nothing else of it is lost."""
        return cls(
            completion.tokens, completion.text, completion.finish, Ledger.of(completion.steps)
        )

    def completion(self, prompt: Prompt, sample: int = 0) -> Completion:
        """The reverse of `of`: which of the responses to which prompt it is.

        Raises:
            DataError: no ledger is known of it.
        """
        if self.ledger is None or self.finish is None:
            raise DataError(
                "a response must have its ledger to be a completion",
                got="text that was given, or read without its ledger",
                do="take responses that trimtab decoded",
            )
        steps = self.ledger.steps(self.tokens, self.finish)
        return Completion(prompt, sample, self.text, self.tokens, self.finish, steps)

    @property
    def logprobs(self) -> tuple[float, ...]:
        """log pi of each token under the policy that wrote it (nats).

        Empty without a ledger, and for blocks, whose tokens have no probabilities of their own.
        """
        if self.ledger is None or None in self.ledger.kl:
            return ()
        return self.ledger.logprobs

    @property
    def kl(self) -> float | None:
        """Sum over steps of the exact KL(pi || pi_ref), in nats; None where a step has none."""
        return None if self.ledger is None else _sum_or_none(self.ledger.kl)

    def _repr_html_(self) -> str:
        tokens = [TintedToken(self.text)]
        if self.ledger is not None:
            guided = any(self.ledger.guide_tokens)
            steps = self.ledger.steps(self.tokens, self.finish or "length")
            tokens = [step.tinted(guided) for step in steps]
        facts = [f"{name} {score:+.3g}" for name, score in self.rewards.items()]
        facts += [] if self.kl is None else [f"KL {self.kl:.2f} nats"]
        return text_html(tokens, ", ".join([*facts, f"{len(self.tokens)} tokens"]))


@dataclass(frozen=True)
class Group:
    """One prompt and its responses. A human preference is a group of two.

    Attributes:
        prompt: what is asked, encoded for the base.
        responses: what was answered.
        topic: what it is about: groups of one topic are never in two splits.
        prefix: ids that open every response (validation: half a response, completed ten times).
    """

    prompt: Prompt
    responses: tuple[Response, ...]
    topic: str
    prefix: tuple[int, ...] = ()

    def mean(self, reward: str) -> float:
        """The mean reward of the responses: an unbiased label of the prefix' value."""
        return sum(r.rewards[reward] for r in self.responses) / len(self.responses)
