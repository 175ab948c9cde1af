"""`trimtab evaluate`, `sweep` and `report`: methods on a task, on one footing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from trimtab.cli.options import (
    PROMPTS,
    RUN,
    Count,
    ModelOptions,
    Names,
    OutputOptions,
    PromptOptions,
    RunOptions,
    Split,
    panel,
    settings,
)
from trimtab.cli.screen import on_screen, print_json, print_table, progress
from trimtab.errors import UsageError

if TYPE_CHECKING:
    from trimtab.evaluation.experiment import Evaluation
    from trimtab.evaluation.table import Table
    from trimtab.protocols import Task

CHOICE = Group.create_ordered("Choice", sort_key=2)
METHODS = ("greedy", "sampling", "args", "vas")
BETAS = (0.5, 1.0, 2.0, 4.0, 8.0)


@panel(Group.create_ordered("Task", sort_key=1))
class ScoreOptions:
    """What judges.

    Attributes:
        reward: What scores finished texts: a name, FILE.py:NAME, hf:MODEL, http://HOST/PATH, or a
            sum: 'sentiment - 0.01*length'. Default: the task's.
        judge: A second opinion; likewise.
        on_reward_error: What a text that cannot be scored does.
        rescore: Ask rewards anew, whatever is kept of them: where one reads files or a server that
            have changed. Texts stay.
        metric: Also shown: perplexity, distinct-n, repetition; also measured: rouge-l (n >= 2),
            coherence (MiniLM) or coherence=MODEL; may repeat.
    """

    reward: Annotated[str | None, Parameter(alias="-r", allow_leading_hyphen=True)] = None
    judge: Annotated[str | None, Parameter(alias="-j", allow_leading_hyphen=True)] = None
    on_reward_error: Literal["raise", "skip"] = "raise"
    rescore: Annotated[bool, Parameter(negative="")] = False
    metric: tuple[str, ...] = ()


@panel(Group.create_ordered("Methods", sort_key=1))
class GridOptions:
    """Several methods, with several parameters.

    Attributes:
        method: See `trimtab methods`; may repeat. Default: greedy, sampling, args, vas.
        guide: As for `trimtab generate`; may repeat. Default: the reward, read on prefixes.
        beta: Strength; may repeat. Default: the method's; of a sweep 0.5, 1, 2, 4, 8.
        k: Candidates per step; may repeat.
        set_: Another parameter of the methods that have it, such as n=16 or tail=drop; may repeat.
        baseline: The row that others are compared with.
    """

    method: Annotated[tuple[str, ...], Parameter(alias="-m")] = ()
    guide: Annotated[Names, Parameter(alias="-g")] = ()
    beta: Annotated[tuple[float, ...], Parameter(alias="-b")] = ()
    k: Annotated[tuple[Count, ...], Parameter(alias="-k")] = ()
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    baseline: str | None = None


@panel(RUN)
class EvaluationOptions(RunOptions):
    """How many prompts and responses, and where.

    Attributes:
        base_samples: Responses per prompt of `sampling`; best-of-n is computed from them, for
            every n up to that. Default: --n.
        out: Folder of the results; a second run computes only what is not there.
    """

    base_samples: Count | None = None
    out: Annotated[Path, Parameter(alias="-o")] = Path("results")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class MeasureOptions:
    """What `evaluate` and `sweep` are called with."""

    source: PromptOptions = field(default_factory=PromptOptions)
    scores: ScoreOptions = field(default_factory=ScoreOptions)
    grid: GridOptions = field(default_factory=GridOptions)
    run: EvaluationOptions = field(default_factory=EvaluationOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    model: ModelOptions = field(default_factory=ModelOptions)

    @contextmanager
    def prepared(self, task: str | None, betas: Sequence[float] = ()) -> Iterator[dict[str, Any]]:
        """The arguments of the Python functions, with a bar for the work."""
        from trimtab.evaluation.metrics import metric as find_metric
        from trimtab.runs import Processes
        from trimtab.runs.resolve import find_guide, find_methods

        grid, run, scores = self.grid, self.run, self.scores
        axes: dict[str, list[Any]] = {"beta": list(grid.beta or betas), "k": list(grid.k)}
        for name, values in settings(grid.set_).items():
            axes[name] = [*axes.get(name, ()), *values]
        methods = find_methods(grid.method or METHODS, axes)
        measured = self.find_task(task)
        metrics = [find_metric(name) for name in scores.metric]  # said before the work
        opener = self.model.opener(measured.template)
        lm = opener()
        guides = [find_guide(guide, lm) for guide in grid.guide or [measured.reward]]
        same = ("n", "base_samples", "seed", "max_new_tokens", "rows")
        with progress("decoding", quiet=self.output.quiet) as meter:
            yield {
                "lm": lm,
                "task": measured,
                "methods": methods,
                "folder": run.out,
                "guides": guides,
                "prompts": self.source.limit,
                **{name: getattr(run, name) for name in same},
                "processes": Processes(run.workers, opener, run.on),
                "on_reward_error": scores.on_reward_error,
                "rescore": scores.rescore,
                "baseline": grid.baseline,
                "metrics": metrics,
                "on": meter.on,
            }

    def find_task(self, name: str | None) -> Task:
        """A task by name, perhaps with another reward or judge, or one from a file of prompts."""
        from trimtab.runs.resolve import find_reward, with_scheme
        from trimtab.tasks import PromptTask, find, task_from_file

        source, scores = self.source, self.scores
        reward = find_reward(scores.reward).function if scores.reward else None
        judge = find_reward(scores.judge).function if scores.judge else None
        source.check()
        if (name is None) == (source.prompts is None):
            got, do = "neither" if name is None else "both", "name one of the two"
            raise UsageError("name a TASK, or a file by --prompts", got=got, do=do)
        if name is not None:
            named = find(with_scheme(name))
            if not isinstance(named, PromptTask):
                return named
            return replace(named, reward=reward or named.reward, judge=judge or named.judge)
        if reward is None:
            raise UsageError("--prompts needs a reward", got="none", do="add --reward")
        return task_from_file(
            source.prompts or "",
            reward,
            judge,
            column=source.column,
            max_new_tokens=self.run.max_new_tokens or 128,
        )


def evaluate(
    task: str | None = None,
    *,
    given: MeasureOptions = MeasureOptions(),
    split: Annotated[Split, Parameter(group=PROMPTS)] = "test",
) -> None:
    """Measure methods: reward, judge, KL, diversity, length and cost, compared prompt by prompt.

    Two methods on a task, eight responses to each prompt:

      trimtab evaluate sentiment --method sampling --method vas --beta 2 --beta 4 -n 8

    Prompts and a reward of your own:

      trimtab evaluate --prompts mine.jsonl --reward my.py:score --method args

    Args:
        task: sentiment, verbosity, detox, ...; or --prompts.
        split: Of the task's prompts.
    """
    from trimtab.evaluation.experiment import evaluate as measure

    with given.prepared(task) as arguments:
        result = measure(split=split, **arguments)
    if given.output.json:
        print(result.table.to_json(), end="")
        return
    show_table(result.table)
    show_counts(result, given.run.out, given.output)


def sweep(
    task: str | None = None,
    *,
    given: MeasureOptions = MeasureOptions(),
    choose_on: Annotated[Split, Parameter(group=CHOICE)] = "validation",
    score_on: Annotated[Split, Parameter(group=CHOICE)] = "test",
    max_kl: Annotated[float | None, Parameter(group=CHOICE)] = None,
    max_length: Annotated[float | None, Parameter(group=CHOICE)] = None,
) -> None:
    """How strong? Try a grid on one split, and score each method's best on another.

    Three strengths of two methods:

      trimtab sweep sentiment --method args --method vas --beta 1 --beta 2 --beta 4 -n 4

    The strongest that stays near the base, by four processes:

      trimtab sweep detox --method vas --max-kl 10 --workers 4

    Args:
        task: sentiment, verbosity, detox, ...; or --prompts.
        choose_on: Split on which strengths are chosen.
        score_on: Split on which the chosen are scored.
        max_kl: Most nats per response.
        max_length: Most tokens, on average.
    """
    from trimtab.evaluation.sweep import sweep as try_all

    caps: dict[str, Any] = {"max_kl": max_kl, "max_length": max_length}
    with given.prepared(task, BETAS) as arguments:
        result = try_all(choose_on=choose_on, score_on=score_on, **caps, **arguments)
    if given.output.json:
        choices = [vars(choice) for choice in result.choices]
        print_json({"choices": choices, "frontier": result.frontier}, indent=None)
        for done in filter(None, (result.grid, result.test)):
            print(done.table.to_json(), end="")
        return
    show_table(result.grid.table)
    for choice in result.choices:
        by = f" by {choice.guide}" if choice.guide else ""
        print(f"{choice.method}{by}: {choice.label or 'nothing'} ({choice.why})")
    if result.test is not None:
        print()
        show_table(result.test.table)
    counts = replace(result.test or result.grid, computed=result.computed, reused=result.reused)
    show_counts(counts, given.run.out, given.output)


def report(
    folder: Path,
    *,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Show results: tables, pictures and texts in one HTML file; nothing is decoded.

      trimtab report results

      trimtab report results --out docs/sentiment

    Args:
        folder: What `trimtab evaluate`, `trimtab sweep` or `trimtab collect` wrote.
        out: Folder of the report; default: FOLDER/report.
    """
    from trimtab.evaluation.report import report as write_report

    paths = [str(path) for path in write_report(folder, out)]
    if output.json:
        print_json(paths)
    elif not output.quiet:
        print("\n".join(paths))


# --- what is printed -----------------------------------------------------------------------------


def show_table(table: Table) -> None:
    """The table on stdout: drawn where somebody reads it, as Markdown in a pipe."""
    if not on_screen():
        print(table.to_markdown(), end="")
        return
    shown = table.readable()
    print_table(shown.head, shown.rows)


def show_counts(result: Evaluation, folder: Path, output: OutputOptions) -> None:
    """On stderr: wall time per token against the base, which no two runs share, and the counts."""
    if output.quiet:
        return
    clocks = [clock for clock in result.times if clock.relative is not None]
    if len(clocks) > 1:  # more than the base alone
        print(f"wall time per token, in multiples of {clocks[0].base}:", file=sys.stderr)
        width = max(len(clock.name) for clock in clocks)
        for clock in clocks:
            print(f"  {clock.name:{width}}  {clock.relative:6.2f}", file=sys.stderr)
    counts = f"{result.computed} batches computed, {result.reused} reused"
    print(f"{counts}; results in {folder}", file=sys.stderr)
