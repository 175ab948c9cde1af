"""How strong? A grid of methods on one split, each one's best strength scored on another.

The strength is chosen by the reward on the `choose_on` split, among those whose KL and length stay
under the caps, and then scored on prompts that had no say in the choice. Beside the two tables,
`tables/sweep.json` holds

    {"choose_on", "score_on", "caps": {"kl", "length"}, "frontier": [labels by rising KL],
     "choices": [{"method", "guide", "label" (null where nothing kept the caps), "why"}]}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from trimtab.decoding.methods import Method
from trimtab.evaluation.experiment import Evaluation, Experiment, GuideLike, Options
from trimtab.evaluation.statistics import levels
from trimtab.evaluation.table import Row
from trimtab.protocols import LanguageModel, Task
from trimtab.runs.batches import Condition
from trimtab.types import Split


@dataclass(frozen=True)
class Choice:
    """What one method, with one guide, came to.

    Attributes:
        method: name of the method.
        guide: name of its guide.
        label: its best strength within the caps; None where none kept them.
        why: in words.
    """

    method: str
    guide: str | None
    label: str | None
    why: str


@dataclass(frozen=True)
class Sweep:
    """What came out.

    Attributes:
        grid: all strengths on the split that they were chosen on.
        frontier: labels of rows that no other beats in both reward and KL, by rising KL.
        choices: one per method and guide.
        test: the chosen strengths on the other split; None where nothing kept the caps.
    """

    grid: Evaluation
    frontier: tuple[str, ...]
    choices: tuple[Choice, ...]
    test: Evaluation | None

    @property
    def computed(self) -> int:
        """Batches that this call decoded."""
        return self.grid.computed + (self.test.computed if self.test else 0)

    @property
    def reused(self) -> int:
        """Batches that were there already."""
        return self.grid.reused + (self.test.reused if self.test else 0)


def sweep(
    lm: LanguageModel[Any] | str,
    task: Task | str,
    methods: Sequence[Method | str],
    folder: str | Path,
    *,
    guides: Sequence[GuideLike] = (),
    choose_on: Split = "validation",
    score_on: Split = "test",
    max_kl: float | None = None,
    max_length: float | None = None,
    **options: Any,
) -> Sweep:
    """Measure a grid, choose each method's strength, and score the choices on fresh prompts.

    Args:
        lm: the base, or its name.
        task: prompts, a reward and perhaps a judge; or its name.
        methods: the grid; see `trimtab.runs.resolve.find_methods`.
        folder: where results are kept; of one model and one task.
        guides: guided methods run with every one of them.
        choose_on: split on which strengths are chosen.
        score_on: split on which the chosen are scored.
        max_kl: most KL per response, in nats.
        max_length: most tokens per response, on average.
        **options: as in `evaluate`.

    Raises:
        UsageError: the call cannot be meant; nothing was decoded.
        ResultsError: the folder holds other results, or its disk is full.
        RewardError: a text could not be scored and `on_reward_error` is "raise".
    """
    settings = Options.of("sweep", options, choose_on, score_on)
    experiment = Experiment.of(lm, task, folder, guides, settings)
    conditions = experiment.conditions(methods, choose_on)
    fresh = experiment.conditions(methods, score_on)  # bad prompts are said before the work
    tried = experiment.run(conditions, choose_on)
    caps = {"kl": max_kl, "length": max_length}
    picked = choose(conditions, tried.table.rows, caps)
    choices = tuple(choice for choice, _ in picked)
    chosen = [fresh[index] for _, index in picked if index is not None]
    if settings.baseline not in {condition.facts.label for condition in chosen}:
        experiment = replace(experiment, options=replace(settings, baseline=None))
    test = experiment.run(chosen, score_on) if chosen else None
    best = frontier(tried.table.rows)
    summary = {
        "choose_on": choose_on,
        "score_on": score_on,
        "caps": caps,
        "frontier": best,
        "choices": [asdict(choice) for choice in choices],
    }
    experiment.store.write_table("sweep.json", json.dumps(summary, indent=1) + "\n")
    return Sweep(tried, tuple(best), choices, test)


# --- choosing ------------------------------------------------------------------------------------


def choose(
    conditions: Sequence[Condition], rows: Sequence[Row], caps: Mapping[str, float | None]
) -> list[tuple[Choice, int | None]]:
    """Each method's row of most reward within the caps, the lower KL of equals; and its index.

    A method without a guide has no strength to choose: it is scored whatever its KL, so that the
    others have something to stand beside.
    """
    families: dict[tuple[str, str | None], list[int]] = {}
    for i, condition in enumerate(conditions):
        policy = condition.policy
        guide = policy.guide.name if policy.guide else None
        families.setdefault((policy.method.name, guide), []).append(i)
    found = []
    for (name, guide), members in families.items():
        limits = {k: cap for k, cap in caps.items() if cap is not None and guide is not None}
        scored = [i for i in members if rows[i]["reward"] is not None]
        within = [i for i in scored if all(_number(rows[i][k]) <= cap for k, cap in limits.items())]
        best = _best(within, rows)
        label = None if best is None else conditions[best].facts.label
        kept = " and ".join(f"{k} <= {cap:g}" for k, cap in limits.items())
        if within:
            why = f"most reward of {len(within)}"
            why += f" with {kept}, of {len(scored)} tried" if kept else ""
        else:
            why = f"none of {len(scored)} kept {kept}" if scored else "no text has a reward"
        found.append((Choice(name, guide, label, why), best))
    return found


def _best(within: Sequence[int], rows: Sequence[Row]) -> int | None:
    """The index of most reward; of those that differ by rounding alone, the one of least KL."""
    if not within:
        return None
    rewards = levels(np.array([_number(rows[i]["reward"]) for i in within]))
    top = [i for i, reward in zip(within, rewards, strict=True) if reward == rewards.max()]
    return min(top, key=lambda i: _number(rows[i]["kl"]))


def _number(value: object) -> float:
    """A figure; one that does not exist keeps no cap."""
    return float(value) if isinstance(value, int | float) else float("inf")


def frontier(rows: Iterable[Row]) -> list[str]:
    """Labels of rows that no other beats in both reward and KL, by rising KL."""
    known = [r for r in rows if r["kl"] is not None and r["reward"] is not None]
    rewards = levels(np.array([_number(r["reward"]) for r in known])).tolist()
    best, found = -float("inf"), []
    pairs = zip(known, rewards, strict=True)
    for row, reward in sorted(pairs, key=lambda pair: (_number(pair[0]["kl"]), -pair[1])):
        if reward > best:
            best = reward
            found.append(str(row["method"]) + (f" by {row['guide']}" if row["guide"] else ""))
    return found
