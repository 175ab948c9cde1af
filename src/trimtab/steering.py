"""From a reward to a steered model in one call: collect, train, sweep, report.

    <out>/rollouts    what the base says to the training prompts, and what it is worth
    <out>/guide       a value that was trained on them
    <out>/results     the base, best-of-n and the guide at several strengths: the strength is chosen
                      on the validation prompts and scored on the test prompts
    <out>/report      the page

Each stage goes on where it stopped, and each is a command of its own; see `Plan.commands`.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from trimtab.errors import ResultsError, check_keywords
from trimtab.files import write_atomic

if TYPE_CHECKING:
    from trimtab.evaluation.sweep import Sweep

OnStage: TypeAlias = Callable[[str, int, int], object]
"""Called with the stage ("collect", "train", "sweep"), how much of it is done, and its total."""


@dataclass(frozen=True)
class Plan:
    """What is steered, by what, and how much is spent on it.

    Attributes:
        prompts: a file of prompts, or `hub:DATASET[@SPLIT][#COLUMN]`; it is split by topic.
        reward: name of what scores finished texts.
        out: the folder of all that follows.
        judge: name of a second opinion that nothing is trained on; None has none.
        column: where a row has its prompt.
        model: the base.
        base_temperature: shapes the base, in all stages.
        objective: what is trained, such as "td-lambda".
        layers: how many of the base's first layers the guide has; None is all.
        lr: learning rates; the lowest validation error wins.
        epochs: passes over the responses: few prompts need several, and the pass with the lowest
            validation error is kept.
        batch_size: responses of one update.
        n: responses to each training prompt.
        beta: strengths that are tried, in nats per standard deviation of the reward.
        k: candidates of each step that the guide scores.
        test_n: responses to each prompt of the sweep.
        base_samples: of the base, from which best-of-n is computed.
        max_new_tokens: longest response, in tokens.
        seed: decides every draw.
    """

    prompts: str
    reward: str
    out: str = "steered"
    judge: str | None = None
    column: str | None = None
    model: str = "smollm2"
    base_temperature: float = 0.7
    objective: str = "td-lambda"
    layers: int | None = 8
    lr: tuple[float, ...] = (3e-4, 1e-3)
    epochs: int = 8
    batch_size: int = 16
    n: int = 12
    beta: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    k: int = 10
    test_n: int = 4
    base_samples: int = 8
    max_new_tokens: int = 128
    seed: int = 0

    def folder(self, name: str) -> Path:
        """Where a stage's results are."""
        return Path(self.out) / name

    def commands(self, workers: int = 1) -> list[str]:
        """The stages as command lines, each of which goes on where this plan stopped."""
        rollouts, guide, results = map(self.folder, ("rollouts", "guide", "results"))
        asked = ["--prompts", self.prompts, "--reward", self.reward,
                 *(["--column", self.column] if self.column else [])]  # fmt: skip
        base = ["--model", self.model, "--base-temperature", self.base_temperature,
                "--max-new-tokens", self.max_new_tokens, "--seed", self.seed,
                "--workers", workers]  # fmt: skip
        lines: list[list[object]] = [
            ["collect", *asked, "-n", self.n, *base, "-o", rollouts],
            ["train", self.objective, rollouts, "-o", guide, "--unit", "std",
             "--lr", ",".join(f"{rate:g}" for rate in self.lr),
             *(["--layers", self.layers] if self.layers else []),
             "--epochs", self.epochs, "--batch-size", self.batch_size,
             "--model", self.model, "--seed", self.seed],
            ["sweep", *asked, *(["--judge", self.judge] if self.judge else []),
             "-m", "sampling", "-m", "vas", "-g", guide,
             *(word for beta in self.beta for word in ("--beta", f"{beta:g}")),
             "--k", self.k, "-n", self.test_n, "--base-samples", self.base_samples, *base,
             "-o", results],
            ["report", results, "-o", self.folder("report")],
        ]  # fmt: skip
        return [shlex.join(["trimtab", *map(str, line)]) for line in lines]


@dataclass(frozen=True)
class Steered:
    """What came out."""

    guide: Path  # its folder, as `load_guide` and `--guide` take it
    sweep: Sweep  # the strengths that were tried, the one that was chosen, and how it did
    report: tuple[Path, ...]  # its files; the page comes first


def steer(
    prompts: str | Plan,
    reward: str = "",
    out: str = "steered",
    *,
    workers: int = 1,
    on: OnStage | None = None,
    **settings: Any,
) -> Steered:
    """Train a guide for a reward on the prompts of a file, and show what it changes.

        tt.steer("prompts.csv", "my_reward.py:score", "steered", judge="toxicity", layers=8)

    Stopped and called again, it goes on where it was.

    Args:
        prompts: a file of prompts, or a plan that holds all that follows.
        reward: name of what scores finished texts.
        out: the folder of the rollouts, the guide, the results and the report.
        workers: processes that decode; what comes out is the same for any number.
        on: told how far each stage is.
        **settings: the other fields of `Plan`.

    Raises:
        ResultsError: the folder holds what another plan made.
        UsageError: the plan cannot be meant; nothing was decoded.
        RewardError: a text could not be scored.
    """
    check_keywords("steer", settings, [field.name for field in fields(Plan)])
    plan = prompts if isinstance(prompts, Plan) else Plan(prompts, reward, out, **settings)
    from trimtab.decoding.methods import sampling, vas
    from trimtab.evaluation.report import report as write_report
    from trimtab.evaluation.sweep import sweep
    from trimtab.guides.manifest import guide_folder
    from trimtab.runs import OnProgress, Processes, collect, find_prompts
    from trimtab.runs.resolve import find_model, find_reward
    from trimtab.tasks import task_from_file
    from trimtab.training import train

    tell: OnStage = on or (lambda *_: None)

    def decoding(stage: str) -> OnProgress:
        return lambda event: tell(stage, event.done, event.total)

    def learning(lr: float, step: int, steps: int, _: Mapping[str, float]) -> None:
        tell("train", plan.lr.index(lr) * steps + step, len(plan.lr) * steps)

    scorer = find_reward(plan.reward)
    judge = find_reward(plan.judge).function if plan.judge else None
    task = task_from_file(
        plan.prompts,
        scorer.function,
        judge,
        column=plan.column,
        max_new_tokens=plan.max_new_tokens,
    )
    for split in ("train", "validation", "test"):
        task.samples(split)  # an empty one is said before hours of work
    opener = find_model(plan.model, base_temperature=plan.base_temperature)
    _keep(plan)
    lm, source = opener(), find_prompts(None, plan.prompts, "train", plan.column)
    rollouts, guide, results = map(plan.folder, ("rollouts", "guide", "results"))
    shared: Any = {"seed": plan.seed, "processes": Processes(workers, opener, threads=1)}
    collect(
        lm,
        source.samples,
        rollouts,
        rewards=[plan.reward],
        n=plan.n,
        max_new_tokens=plan.max_new_tokens,
        source=source.name,
        on=decoding("collect"),
        **shared,
    )
    if guide_folder(guide) is None:
        same = ("layers", "lr", "epochs", "batch_size", "model", "seed")
        train(
            plan.objective,
            [str(rollouts)],
            str(guide),
            learn=scorer.name,
            unit="std",
            on=learning,
            **{name: getattr(plan, name) for name in same},
        )
    done = sweep(
        lm,
        task,
        [sampling(), *(vas(beta=beta, k=plan.k) for beta in plan.beta)],
        results,
        guides=[str(guide)],
        n=plan.test_n,
        base_samples=plan.base_samples,
        on=decoding("sweep"),
        **shared,
    )
    return Steered(guide, done, tuple(write_report(results, plan.folder("report"))))


def _keep(plan: Plan) -> None:
    """Note the plan in its folder; refuse a folder of another one."""
    path = plan.folder("plan.json")
    facts = json.loads(json.dumps(asdict(plan)))
    if not path.is_file():
        write_atomic(path, json.dumps(facts, indent=1) + "\n")
        return
    kept: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    other = [name for name in facts if name != "out" and kept.get(name) != facts[name]]
    if other:
        raise ResultsError(
            f"{plan.out} must hold what the same plan made",
            got=", ".join(f"{k} {kept.get(k)!r} (now {facts[k]!r})" for k in other),
            do="name another folder by out=..., or go back to that plan",
        )
