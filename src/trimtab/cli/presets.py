"""`trimtab demo` and `trimtab steer`: several commands in one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter, validators

from trimtab.cli.evaluate import show_counts, show_table
from trimtab.cli.options import (
    BASE,
    RUN,
    Count,
    ModelOptions,
    OutputOptions,
    options_of,
    quiet_libraries,
)
from trimtab.cli.screen import print_json, progress
from trimtab.steering import Plan

if TYPE_CHECKING:
    PlanOptions: TypeAlias = Any
else:
    PlanOptions = options_of(
        Plan,
        RUN,
        without=("prompts", "reward"),
        aliases={"out": "-o", "judge": "-j", "n": "-n", "beta": "-b"},
    )


def demo(
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("trimtab-demo"),
    seed: int = 0,
    max_new_tokens: Count = 36,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=2, lte=8))] = 8,
    n: Annotated[Count, Parameter(alias="-n")] = 4,
    output: OutputOptions = OutputOptions(),
    model: Annotated[str, Parameter(group=BASE)] = "smollm2",
    device: Annotated[str | None, Parameter(group=BASE)] = None,
    threads: Annotated[Count, Parameter(group=BASE)] = 1,
) -> None:
    """Steer a small model towards positive sentiment, four ways, and show what each costs.

    Best-of-n and ARGS ask the reward itself; VAS asks a value that was trained to foresee it.

    Prints a table and two completions, and writes a page with pictures. It needs the model
    (trimtab assets fetch smollm2) and takes some minutes on two CPU cores; what was decoded is
    kept, so an interrupted one goes on where it stopped. For a quick look:

      trimtab demo --limit 2 -n 2 --max-new-tokens 16

    Args:
        out: Folder of the results; the page is in its folder `report`.
        seed: The same seed gives the same texts.
        max_new_tokens: Longest response, in tokens.
        limit: How many topics to ask about.
        n: Responses per prompt of each method that samples.
        model: As for `trimtab generate`.
        device: cpu, cuda, ...; default: the best.
        threads: CPU threads; more help only where cores are idle.
    """
    from trimtab.evaluation.demo import BASE_TEMPERATURE, TOPICS, Demo
    from trimtab.evaluation.report import report
    from trimtab.plugins import optional

    optional("matplotlib", "demo", user="the demonstration's picture")  # said before the work
    optional("scipy", "demo", user="the demonstration's table")
    preset = Demo(TOPICS[-limit:], n=n, max_new_tokens=max_new_tokens, seed=seed)
    options = ModelOptions(
        model=model, device=device, threads=threads, base_temperature=BASE_TEMPERATURE
    )
    lm = options.open()
    with progress("steering", quiet=output.quiet) as meter:
        result = preset.run(lm, out, meter.on)
    if output.json:
        print(result.table.to_json(), end="")
    else:
        show_table(result.table)
        print("\n".join(_words(out)))
    (page, *_) = report(out)
    show_counts(result, out, output)
    if not output.json and not output.quiet:
        print(f"wrote {page}", file=sys.stderr)


def _words(folder: Path) -> Iterator[str]:
    """What the table says, and the base's answer beside the best method's to one prompt."""
    from trimtab.evaluation.results import comparisons, read_results
    from trimtab.evaluation.words import facts

    sheet = read_results(folder).head
    for fact in facts(sheet):
        yield f"\n{fact.question} {fact.answer}\n  {fact.words}"
    first, best = comparisons(sheet)[0], sheet.best
    yield f"\n{first.prompt}"
    for answer in first.answers:
        if answer.method in (sheet.baseline.name, best and best.name):
            yield f"\n{answer.method}, reward {answer.reward:+.2f}\n  {answer.text}"


def steer(
    prompts: str,
    *,
    reward: Annotated[str, Parameter(alias="-r", allow_leading_hyphen=True, group=RUN)],
    plan: PlanOptions = PlanOptions(),
    workers: Count = 1,
    dry_run: Annotated[bool, Parameter(negative="")] = False,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Collect, train, sweep and report: a guide for your reward, and what it changes.

    A file of prompts, a reward of yours, and a judge that nothing is trained on:

      trimtab steer prompts.csv --reward my_reward.py:score --judge toxicity --workers 2

    What it would run, stage by stage:

      trimtab steer prompts.csv --reward sentiment --dry-run

    Stopped and called again, it goes on where it was. Then decode with the guide:

      trimtab generate "Your opinion on tea?" --guide steered/guide --base-temperature 0.7

    Args:
        prompts: A file (.txt, .jsonl, .json, .csv, .tsv, .parquet), or hub:DATASET@SPLIT#COLUMN.
        reward: What scores finished texts, as for `trimtab evaluate`.
        workers: Processes; what comes out is the same for any number.
        dry_run: Print the stages' commands, and do nothing.
    """
    from trimtab.steering import steer as steer_all

    whole = Plan(prompts, reward, **vars(plan))
    commands = whole.commands(workers)
    if dry_run:
        print_json(commands) if output.json else print("\n".join(commands))
        return
    if not output.quiet:
        print("\n".join(["The same, stage by stage:", *commands]), file=sys.stderr)
    quiet_libraries()
    with progress("collect", quiet=output.quiet) as meter:
        done = steer_all(
            whole,
            workers=workers,
            on=lambda stage, part, total: meter(part, total, label=stage),
        )
    choices = [vars(choice) for choice in done.sweep.choices]
    if output.json:
        files = [str(path) for path in done.report]
        print_json({"guide": str(done.guide), "choices": choices, "report": files})
        return
    if done.sweep.test is not None:
        show_table(done.sweep.test.table)
    if not output.quiet:
        print(f"guide in {done.guide}, report in {done.report[0]}", file=sys.stderr)
