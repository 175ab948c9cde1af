"""Decodes every arm of the demonstration; what comes out are texts, rewards and seconds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

from trimtab.decoding.loop import decode
from trimtab.demo.settings import Arm, Settings
from trimtab.guides import TextGuide
from trimtab.guides.text import UNFINISHED
from trimtab.protocols import Guide, LanguageModel
from trimtab.rewards import find, on_texts
from trimtab.types import Completion

Trace: TypeAlias = list[tuple[str, float]]
"""What each token added to the text, and the reward of the text so far."""


@dataclass(frozen=True)
class Run:
    """What one arm produced, prompt-major.

    Attributes:
        arm: what ran.
        beta: how strongly.
        completions: the responses.
        rewards: of the responses, by the reward itself.
        seconds: of decoding.
    """

    arm: Arm
    beta: float
    completions: list[Completion]
    rewards: list[float]
    seconds: float

    @property
    def tokens(self) -> int:
        """Tokens emitted."""
        return sum(len(c.tokens) for c in self.completions)

    @property
    def prompts(self) -> list[str]:
        """The prompt of each response."""
        return [c.prompt.text or "" for c in self.completions]


@dataclass(frozen=True)
class Outcome:
    """All runs.

    Attributes:
        settings: what was asked for.
        arms: one run per row of the table, the base first.
        curves: for each curve of the picture its runs, by rising strength.
        clocks: seconds per token of the base at the batch of n responses per prompt, by n.
        traces: each arm's first response to each prompt, token by token, by the arm's name.
    """

    settings: Settings
    arms: list[Run]
    curves: dict[str, list[Run]]
    clocks: dict[int, float]
    traces: dict[str, list[Trace]]


@dataclass
class Meter:
    """How far the work is, in tokens of the base model; whoever draws a bar asks it.

    Attributes:
        lm: its cost counter is read.
        total: tokens, at most.
        label: what runs now.
    """

    lm: LanguageModel[Any]
    total: int
    label: str = ""
    _before: int = 0
    _start: int = 0
    _budget: int = 0

    def begin(self, label: str, budget: int) -> None:
        """A piece of work starts; the one before counts as done."""
        self._before, self._budget = self._before + self._budget, budget
        self.label, self._start = label, self.lm.cost.decoding

    @property
    def done(self) -> int:
        """Tokens read; rows that end early count in full once their piece is over."""
        return self._before + min(self.lm.cost.decoding - self._start, self._budget)


@dataclass
class Demo:
    """Runs the arms one after another.

    Args:
        lm: the base, with `settings.base_temperature`.
        value: the trained guide.
        settings: what to ask.
    """

    lm: LanguageModel[Any]
    value: Guide[Any]
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.judge = on_texts(find(self.settings.reward))
        arms = self.settings.arms
        rows = sum(arm.n * arm.draws for arm in (*arms, *self._clocked()))
        rows += sum(len(arm.betas) for arm in arms) * self.settings.sweep_n
        self.meter = Meter(self.lm, rows * self._unit)

    @property
    def _unit(self) -> int:
        return len(self.settings.prompts) * self.settings.max_new_tokens

    def _clocked(self) -> list[Arm]:
        """The base again, at the batch sizes of the other arms: a fair clock for them."""
        base, *others = self.settings.arms
        sizes = sorted({arm.n for arm in others} - {base.n})
        return [replace(base, name=f"base, n = {n}", n=n) for n in sizes]

    def run(self) -> Outcome:
        """All arms, all curves."""
        decode(self.lm, None, self.settings.arms[0].method, ["Hello."], max_new_tokens=2)  # warm up
        clocks = {arm.n: self._arm(arm) for arm in self._clocked()}
        arms = [self._arm(arm) for arm in self.settings.arms]
        clocks[arms[0].arm.n] = arms[0]
        curves = {arm.name: self._curve(arm) for arm in self.settings.arms if arm.betas}
        self.meter.begin("drawing", 0)
        return Outcome(
            self.settings,
            arms,
            curves,
            {n: run.seconds / run.tokens for n, run in clocks.items()},
            {run.arm.name: [self._trace(c) for c in run.completions[:: run.arm.n]] for run in arms},
        )

    def _arm(self, arm: Arm) -> Run:
        """One arm at its own strength."""
        self.meter.begin(arm.name, arm.n * arm.draws * self._unit)
        begun = time.perf_counter()
        done = self._decode(arm, self.settings.prompts, None)
        seconds = time.perf_counter() - begun
        return Run(arm, arm.method.beta, done, self._rewards(done), seconds)

    def _curve(self, point: Arm) -> list[Run]:
        """One method at all strengths, in a single batch of requests with a strength each."""
        betas, prompts = point.betas, self.settings.prompts
        arm = replace(point, n=self.settings.sweep_n)
        self.meter.begin(
            f"{arm.name}, beta {min(betas):g} to {max(betas):g}", arm.n * len(betas) * self._unit
        )
        begun = time.perf_counter()
        strengths = [beta for beta in betas for _ in prompts]
        done = self._decode(arm, prompts * len(betas), strengths)
        seconds = (time.perf_counter() - begun) / len(betas)
        size = len(prompts) * arm.n
        parts = [done[i * size : (i + 1) * size] for i in range(len(betas))]
        return [
            Run(arm, beta, part, self._rewards(part), seconds)
            for beta, part in zip(betas, parts, strict=True)
        ]

    def _decode(
        self, arm: Arm, prompts: Sequence[str], beta: Sequence[float] | None
    ) -> list[Completion]:
        reads = TextGuide(self.judge, self.lm.decode, name=self.settings.reward)
        guide = self.value if arm.trained else reads
        return decode(
            self.lm,
            guide if arm.method.guided else None,
            arm.method,
            prompts,
            max_new_tokens=self.settings.max_new_tokens,
            n=arm.n,
            beta=beta,
            seed=self.settings.seed,
        )

    def _rewards(self, done: Sequence[Completion]) -> list[float]:
        return list(self.judge([c.prompt.text or "" for c in done], [c.text for c in done]))

    def _trace(self, done: Completion) -> Trace:
        """The reward after each token, read in the same way for every arm."""
        ids = done.tokens
        texts = [self.lm.decode(ids[: i + 1]).rstrip(UNFINISHED) for i in range(len(ids))]
        scores = self.judge([done.prompt.text or ""] * len(texts), texts)
        pieces = [now[len(before) :] for before, now in pairwise(["", *texts])]
        return list(zip(pieces, scores, strict=True))
