"""`trimtab steer`: from a reward to a steered model, in one command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from trimtab.cli.options import RUN, Count, OutputOptions, options_of
from trimtab.cli.screen import print_json, progress
from trimtab.steering import Plan

if TYPE_CHECKING:
    from trimtab.steering import Steered


if TYPE_CHECKING:
    PlanOptions: TypeAlias = Any
else:
    PlanOptions = options_of(
        Plan,
        RUN,
        without=("prompts", "reward"),
        aliases={"out": "-o", "judge": "-j", "n": "-n", "beta": "-b"},
    )


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
    from trimtab.cli.options import quiet_libraries
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
    _print(done, output)


def _print(done: Steered, output: OutputOptions) -> None:
    from trimtab.cli.evaluate import show_table

    choices = [vars(choice) for choice in done.sweep.choices]
    if output.json:
        files = [str(path) for path in done.report]
        print_json({"guide": str(done.guide), "choices": choices, "report": files})
        return
    if done.sweep.test is not None:
        show_table(done.sweep.test.table)
    if not output.quiet:
        print(f"guide in {done.guide}, report in {done.report[0]}", file=sys.stderr)
