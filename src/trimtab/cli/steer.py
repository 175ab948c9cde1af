"""`trimtab steer`: from a reward to a steered model, in one command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from trimtab.cli.options import RUN, TASK, Count, OutputOptions
from trimtab.cli.screen import print_json, progress

if TYPE_CHECKING:
    from trimtab.steering import Steered


def steer(
    prompts: str,
    *,
    reward: Annotated[str, Parameter(alias="-r", allow_leading_hyphen=True, group=TASK)],
    judge: Annotated[
        str | None, Parameter(alias="-j", allow_leading_hyphen=True, group=TASK)
    ] = None,
    column: Annotated[str | None, Parameter(group=TASK)] = None,
    out: Annotated[str, Parameter(alias="-o")] = "steered",
    objective: str = "td-lambda",
    layers: Count | None = None,
    lr: tuple[float, ...] = (1e-4, 3e-4, 1e-3),
    beta: Annotated[tuple[float, ...], Parameter(alias="-b")] = (0.5, 1.0, 2.0, 4.0),
    n: Annotated[Count, Parameter(alias="-n", group=RUN)] = 12,
    test_n: Annotated[Count, Parameter(group=RUN)] = 4,
    base_samples: Annotated[Count, Parameter(group=RUN)] = 8,
    max_new_tokens: Annotated[Count, Parameter(group=RUN)] = 128,
    seed: Annotated[int, Parameter(group=RUN)] = 0,
    workers: Annotated[Count, Parameter(group=RUN)] = 1,
    model: Annotated[str, Parameter(group=RUN)] = "smollm2",
    base_temperature: Annotated[float, Parameter(group=RUN)] = 0.7,
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
        judge: A second opinion; likewise.
        column: Where a row has its prompt.
        out: Folder of the rollouts, the guide, the results and the report.
        objective: What is trained, as for `trimtab train`.
        layers: How many of the base's first layers the guide has; default: all.
        lr: Learning rates; may repeat. Default: 1e-4, 3e-4, 1e-3.
        beta: Strengths to try, in nats per standard deviation of the reward; may repeat. Default:
            0.5, 1, 2, 4.
        n: Responses to each training prompt.
        test_n: Responses to each prompt of the sweep.
        base_samples: Of the base, from which best-of-n is computed.
        max_new_tokens: Longest response, in tokens.
        seed: Decides every draw.
        workers: Processes; what comes out is the same for any number.
        model: A fetched model's name, a folder, or a Hub id.
        base_temperature: Shapes the base before steering.
        dry_run: Print the stages' commands, and do nothing.
    """
    from trimtab.cli.options import quiet_libraries
    from trimtab.steering import Plan
    from trimtab.steering import steer as steer_all

    plan = Plan(
        prompts,
        reward,
        out,
        judge,
        column,
        model,
        base_temperature,
        objective,
        layers,
        lr,
        n,
        beta,
        test_n,
        base_samples,
        max_new_tokens,
        seed,
    )
    commands = plan.commands(workers)
    if dry_run:
        print_json(commands) if output.json else print("\n".join(commands))
        return
    if not output.quiet:
        print("\n".join(["The same, stage by stage:", *commands]), file=sys.stderr)
    quiet_libraries()
    with progress("collect", quiet=output.quiet) as meter:
        done = steer_all(
            plan,
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
