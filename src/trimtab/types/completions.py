"""What comes out of a decode: steps, completions with their ledger, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from trimtab.types.html import TintedToken, text_html
from trimtab.types.prompts import Prompt

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
        """The step as a page or a notebook shows it.

        Args:
            guided: whether a guide steered it; else it has neither push nor score.
        """
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
