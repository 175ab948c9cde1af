"""The demonstration: one small model, one reward, four ways to steer it, and what each costs.

A preset of `evaluate` and `report`. Best-of-n and ARGS ask the reward itself, read on
prefixes; VAS asks a value that was trained to foresee it. Temperature lives in pi_ref, so none acts
after it: open the base with `base_temperature=BASE_TEMPERATURE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from trimtab.decoding.methods import args, args_stochastic, best_of_n, sampling, vas
from trimtab.evaluation.experiment import Evaluation, Experiment, GuideLike, Options
from trimtab.protocols import LanguageModel, Reward
from trimtab.runs.batches import Condition
from trimtab.runs.resolve import find_guide, find_reward
from trimtab.runs.worker import OnProgress, silent
from trimtab.types import Sample, Split, Template

BASE_TEMPERATURE = 0.7

TOPICS = (
    "data compression",
    "fruit wines",
    "curtains",
    "volcanoes",
    "bicycles",
    "taxes",
    "coffee",
    "winter",
)


@dataclass(frozen=True)
class Opinions:
    """The task: a one-sentence opinion on each topic, the same in every split."""

    topics: Sequence[str]
    reward: Reward
    max_new_tokens: int
    name: str = "demo"
    judge: Reward | None = None
    template: Template = field(default="auto", init=False)

    def samples(self, split: str) -> tuple[Sample, ...]:
        """One per topic."""
        question = "Write a one sentence opinion about the following topic: {}."
        return tuple(Sample(question.format(topic), topic) for topic in self.topics)


@dataclass(frozen=True)
class Demo:
    """What is asked, how often, and how strongly it is steered.

    A sentiment word moves the reward, read on prefixes, by about .5, so a beta of 8 gives it odds
    of e^4; at 1 or 2 the published strengths do little here. A beta of 0 shows what dropping the
    tail costs on its own.
    """

    topics: Sequence[str] = TOPICS
    reward: str = "sentiment"
    value: GuideLike = "sentiment"  # the trained guide: best-of-64's reward on other topics
    n: int = 4  # responses per prompt of what samples; the base gives 4 n, best-of-n n // 2
    draws: int = 8  # n of best-of-n
    beta: float = 8.0  # of the reward read on prefixes
    betas: Sequence[float] = (0.0, 2.0, 4.0, 8.0, 16.0)  # of it in the pictures
    value_beta: float = 20.0  # of the trained value
    value_betas: Sequence[float] = (5.0, 10.0, 20.0, 40.0)
    max_new_tokens: int = 36
    seed: int = 0

    def run(
        self, lm: LanguageModel[Any], folder: str | Path, on: OnProgress = silent
    ) -> Evaluation:
        """Decode what `folder` does not hold, and write its tables; `lm` is at `BASE_TEMPERATURE`.

        Table "test" has one row per way to steer, which is what conclusions rest on; table "all"
        has all strengths, on the same prompts.
        """
        reward = find_reward(self.reward)
        task = Opinions(self.topics, reward.function, self.max_new_tokens)
        options = Options(n=self.n, base_samples=4 * self.n, seed=self.seed, on=on)
        few = replace(options, n=max(1, self.n // 2))
        value = replace(find_guide(self.value, lm), name="value")
        prefixes = Experiment.of(lm, task, folder, [reward], options)
        best = Experiment.of(lm, task, folder, [reward], few)
        trained = Experiment.of(lm, task, folder, [value], options)

        def rows(
            split: Split, betas: Sequence[float], value_betas: Sequence[float]
        ) -> list[Condition]:
            stochastic = [args_stochastic(beta, temperature=1.0) for beta in betas]
            return [
                *prefixes.conditions([sampling()], split),
                *best.conditions([best_of_n(self.draws)], split),
                *prefixes.conditions([args(self.beta), *stochastic], split),
                *trained.conditions([vas(beta, k=10) for beta in value_betas], split),
            ]

        prefixes.run(rows("all", self.betas, self.value_betas), "all")
        return prefixes.run(rows("test", [self.beta], [self.value_beta]), "test")
