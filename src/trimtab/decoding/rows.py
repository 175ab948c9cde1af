"""The host's side of a decode: which rows are live, what each has said, which steps are in flight.

A step's numbers are copied to the host while the device goes on; a step is read when `lookahead`
others have been dispatched after it. So reading a token need not wait for the device.

Legend: P prompts, R some rows.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from trimtab.decoding.methods import Method
from trimtab.decoding.step import BatchStep, StepRow
from trimtab.errors import GuideError, LawError, ModelError
from trimtab.protocols import Guide, LanguageModel, Reader
from trimtab.types import Alternative, FinishReason, Proposal, Samples, Step, Tally

_REPLACEMENT = "\ufffd"


class Rows:
    """All rows of one call; those that are `live` stand in the order of the device's states."""

    def __init__(
        self, traces: Sequence[Trace], lookahead: int, check: StepCheck | None = None
    ) -> None:
        self.traces, self.lookahead, self._check = traces, lookahead, check
        self.live = list(range(len(traces)))
        self._dispatched = [0] * len(traces)
        self._in_flight: deque[InFlight] = deque()

    def within(self, proposal: Proposal) -> Proposal:
        """Blocks no longer than every live row has room for; other proposals as they are."""
        if not isinstance(proposal, Samples):
            return proposal
        return proposal.within(min(self.traces[r].budget - self._dispatched[r] for r in self.live))

    def dispatch(self, step: BatchStep, shares: tuple[float, ...]) -> Iterator[Step]:
        """Send a step of the live rows to the host, with what base and guide read for each row.

        Yields the steps of those that have been in flight long enough.
        """
        for row in self.live:
            self._dispatched[row] += step.tokens.shape[1]
        self._in_flight.append(InFlight(step, list(self.live), shares))
        yield from self._read(self.lookahead)

    def drain(self) -> Iterator[Step]:
        """The steps of all that is still in flight."""
        yield from self._read(0)

    def drop_finished(self) -> Int[Tensor, "R"] | None:
        """Drop rows that have ended or have no room; positions of the others, None if all go on."""
        keep = [i for i, row in enumerate(self.live) if self._goes_on(row)]
        if len(keep) == len(self.live):
            return None
        self.live = [self.live[i] for i in keep]
        return torch.tensor(keep, dtype=torch.int64)

    def _goes_on(self, row: int) -> bool:
        trace = self.traces[row]
        return trace.finish is None and self._dispatched[row] < trace.budget

    def _read(self, lookahead: int) -> Iterator[Step]:
        """Wait for all steps but the last few.

        A row that ended in an earlier step may have been dispatched once more: that yields nothing.
        """
        while len(self._in_flight) > lookahead:
            arrived = self._in_flight.popleft()
            for row, numbers in zip(arrived.rows, arrived.wait().rows(), strict=True):
                if self.traces[row].finish is None:
                    yield self._step(row, numbers, *arrived.shares)

    def _step(self, row: int, numbers: StepRow, base_tokens: float, guide_tokens: float) -> Step:
        trace = self.traces[row]
        if self._check is not None:
            self._check(row, len(trace.tokens), numbers)
        text = trace.push(numbers.tokens)
        return Step(
            row=row,
            tokens=numbers.tokens,
            text=text,
            logprob=numbers.logprob,
            ref_logprob=numbers.ref_logprob,
            score=numbers.score,
            kl=None if math.isnan(numbers.kl) else numbers.kl,
            alternatives=tuple(
                Alternative(int(token), ref_logprob, score, logprob)
                for token, ref_logprob, score, logprob in numbers.alternatives
            ),
            base_tokens=base_tokens,
            guide_tokens=guide_tokens,
            failed=numbers.fault != 0,
            finish=trace.finish,
        )


class InFlight:
    """A step on its way to the host. `wait` waits for this step alone, not for later work."""

    def __init__(self, step: BatchStep, rows: list[int], shares: tuple[float, ...]) -> None:
        self.rows, self.shares = rows, shares
        copies = (getattr(step, f.name).to("cpu", non_blocking=True) for f in fields(step))
        self._host = BatchStep(*copies)
        self._done = None
        if step.tokens.is_cuda:
            self._done = torch.cuda.Event()
            self._done.record()

    def wait(self) -> BatchStep:
        """The step in host memory."""
        if self._done is not None:
            self._done.synchronize()
        return self._host


@dataclass
class Trace:
    """One row as the host sees it: its tokens, its text so far, and whether it has ended.

    Text is decoded over a short window, because a token's text depends on its neighbour (leading
    spaces) and a character may span tokens; what may still become a stop string is held back, so
    the pieces that were streamed always join to the completion's text.
    """

    decode: Callable[[Sequence[int]], str] | None  # None where nobody wants the text
    eos_ids: frozenset[int]  # empty to ignore EOS
    budget: int  # most tokens
    stop: tuple[str, ...] = ()  # strings that end the row and are cut off
    tokens: list[int] = field(default_factory=list)
    finish: FinishReason | None = None
    _start: int = 0  # the window's first token
    _read: int = 0  # tokens whose text is out of the window
    _held: str = ""  # text that may be the beginning of a stop string

    def push(self, tokens: Sequence[int]) -> str:
        """Append tokens; the text that is now certain. Sets `finish` when the row has ended."""
        self.tokens.extend(tokens)
        if self.tokens[-1] in self.eos_ids:
            self.finish = "eos"
        elif len(self.tokens) >= self.budget:
            self.finish = "length"
        if self.decode is None:
            return ""
        self._held += self._new_text(self.decode)
        return self._release()

    def _new_text(self, decode: Callable[[Sequence[int]], str]) -> str:
        """Text of the tokens since the last call, once it ends in a whole character.

        Tokens that add no text (special ones) stay in the window: alone they are no neighbour, and
        what follows them would lose its leading space.
        """
        body = self.tokens[:-1] if self.finish == "eos" else self.tokens
        before = decode(body[self._start : self._read])
        now = decode(body[self._start :])
        if self.finish is None and (now.endswith(_REPLACEMENT) or len(now) <= len(before)):
            return ""
        self._start, self._read = self._read, len(body)
        return now[len(before) :]

    def _release(self) -> str:
        """Give out held text, up to a stop string or to what may become one."""
        places = [i for stop in self.stop if (i := self._held.find(stop)) >= 0]
        if places:
            self.finish = "stop"
            return self._held[: min(places)]
        keep = 0 if self.finish else max((_overlap(self._held, s) for s in self.stop), default=0)
        cut = len(self._held) - keep
        out, self._held = self._held[:cut], self._held[cut:]
        return out


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


class Meter:
    """Tokens that one call read, shared evenly among the rows that were live.

    Others may use the same readers meanwhile, in this thread or another: only what is read while
    `counting` lasts is this call's. A reader may be None, and has read nothing.
    """

    def __init__(self, *readers: Reader[Any] | None) -> None:
        self.readers, self._tally = readers, Tally()
        self._last = [0] * len(readers)

    def counting(self) -> AbstractContextManager[None]:
        """Lasts while the call's own reading is done."""
        return self._tally.counting()

    def shares(self, rows: int) -> tuple[float, ...]:
        """For each reader the tokens per row since it was last asked."""
        now = [0 if reader is None else self._tally.of(reader.cost) for reader in self.readers]
        shares = tuple((a - b) / rows for a, b in zip(now, self._last, strict=True))
        self._last = now
        return shares


@dataclass(frozen=True)
class StepCheck:
    """Holds every row of a step to being numbers, and says whose fault it is where it is not.

    Nothing is asked of the device for it: a model, guide or rule that fails leaves its mark in the
    step's ledger (see `BatchStep`), which comes to the host anyhow.
    """

    lm: LanguageModel[Any]
    guide: Guide[Any] | None
    method: Method
    beta: float | Float[Tensor, "P 1"]  # of all prompts, or of each
    n: int  # rows of each prompt
    lenient: bool  # whether a guide that fails leaves the choice to the base
    first_prompt: int  # its number in errors

    def __call__(self, row: int, position: int, numbers: StepRow) -> None:
        """Raise the error of whoever made a row's numbers, unless they are finite."""
        prompt = row // self.n
        row += self.first_prompt * self.n
        where = f"at row {row} (prompt {self.first_prompt + prompt}), position {position}"
        if math.isnan(numbers.ref_logprob):
            raise ModelError(
                f"the base {self.lm!r} must give finite logits",
                got=f"NaN or inf {where}",
                do="mend its weights, or load it in another dtype",
            )
        if numbers.fault and self.guide is not None and not self.lenient:
            beta = float(self.beta[prompt]) if isinstance(self.beta, Tensor) else self.beta
            raise _guide_error(self.guide.name, beta, numbers.fault, where)
        if not math.isfinite(numbers.logprob) or not math.isfinite(numbers.ref_logprob):
            rule = getattr(self.method.rule, "__name__", repr(self.method.rule))
            raise LawError(
                f"rule {rule!r} and {self.method.sampler} of method {self.method.name!r} must make "
                "a law of finite numbers, with no chance for what the base gives none",
                got=f"log pi {numbers.logprob} of a choice of log pi_ref {numbers.ref_logprob} "
                f"{where}",
                do="try them with trimtab.testing.check_rule and check_method",
            )


def _guide_error(guide: str, beta: float, score: float, where: str) -> GuideError:
    do = 'mend the guide, or pass on_guide_error="base" to let the base choose there'
    if not math.isfinite(score):
        return GuideError(
            f"guide {guide!r} must return finite scores", got=f"NaN or inf {where}", do=do
        )
    return GuideError(
        f"beta times the scores of guide {guide!r} must not overflow",
        got=f"beta = {beta:g} and a score of size {score:g} {where}",
        do=f"lower beta; or {do}",
    )
