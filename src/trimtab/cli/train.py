"""`trimtab train`: a guide from rollouts, or from preferences."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from trimtab.cli.options import (
    RUN,
    Count,
    OutputOptions,
    options_of,
    quiet_libraries,
    settings,
    use_threads,
)
from trimtab.cli.screen import Meter, print_json, progress
from trimtab.errors import TrimtabWarning, UsageError
from trimtab.training.config import TrainConfig, make_config, read_config

if TYPE_CHECKING:
    from trimtab.training.run import OnRun, Trained

    TrainOptions: TypeAlias = Any
else:
    TrainOptions = options_of(
        TrainConfig,
        RUN,
        without=("objective", "data", "settings"),
        aliases={"out": "-o"},
        hints={"lr": str},
        optional=True,
    )


def train(
    objective: str | None = None,
    *data: str,
    config: Annotated[Path | None, Parameter(alias="-c")] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    options: TrainOptions = TrainOptions(),
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    threads: Count | None = None,
    processes: Count | None = None,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Train a guide: a value, a classifier, a Q-function or a reward model on prefixes.

    A value of the base policy from its own rollouts (VAS), 8 of its layers, three learning rates:

      trimtab collect sentiment --split train -o rollouts

      trimtab train td-lambda rollouts -o my-guide --layers 8 --lr 1e-4,3e-4,1e-3

    A reward model on prefixes from human preferences (PARGS):

      trimtab train partial-bradley-terry pairs.jsonl -o my-reward --set prefixes=2

    From a file, with one thing changed:

      trimtab train --config train.yaml --seed 1 -o another-guide

    On two processes:

      torchrun --nproc-per-node 2 -m trimtab train td-lambda rollouts -o my-guide --processes 2

    Killed at any moment and called again, it goes on where it stood.

    Args:
        objective: td-lambda, monte-carlo, cd-q, fudge, rad, q, dueling-q, value-advantage, ilql,
            bradley-terry, partial-bradley-terry, genarm, farma.
        data: Folders that `trimtab collect` wrote, or files of preferences.
        config: YAML of these settings; flags win.
        set_: A parameter of the objective: lambda_=0.9, bootstrap=exact, prefixes=2; may repeat.
        overwrite: Replace a guide that is there.
        threads: CPU threads of each process.
        processes: How many must train together, else stop.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    given |= {"lr": _rates(options.lr)} if options.lr is not None else {}
    given |= {"objective": objective} if objective is not None else {}
    given |= {"data": list(data)} if data else {}
    given |= {"settings": {k: v[-1] for k, v in settings(set_).items()}} if set_ else {}
    wanted = read_config(config, **given) if config else make_config(given)
    _check_processes(processes)
    quiet_libraries()
    use_threads(threads)
    from trimtab.training.run import train as learn

    first = os.environ.get("RANK", "0") == "0"
    quiet = output.quiet or not first
    with progress("learning", quiet=quiet) as meter, warnings.catch_warnings():
        warnings.simplefilter("ignore", TrimtabWarning)  # said last, in `_print`
        done = learn(wanted, overwrite=overwrite, on=_watch(meter))
    if first:
        _print(done, output)


def _rates(text: str) -> list[float]:
    """`1e-4,3e-4` as numbers."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        must = "--lr must be numbers with commas between them"
        raise UsageError(must, got=repr(text), do="e.g. 1e-4,3e-4") from error


def _check_processes(wanted: int | None) -> None:
    """Some launchers start one process where several were asked for, and say nothing."""
    started = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted is not None and wanted != started:
        raise UsageError(
            f"--processes says that {wanted} processes train together",
            got=f"{started}",
            do=f"start them with: torchrun --nproc-per-node {wanted} -m trimtab train ...",
        )


def _watch(meter: Meter) -> OnRun:
    """Shows each learning rate's updates, with its last validation error."""
    errors: dict[float, str] = {}

    def on(lr: float, step: int, steps: int, logs: Mapping[str, float]) -> None:
        if "eval_error" in logs:
            errors[lr] = f"error {logs['eval_error']:.4f}"
        meter(step, steps, label=f"lr {lr:g}", note=errors.get(lr, ""))

    return on


def _print(done: Trained, output: OutputOptions) -> None:
    """Every run's validation error, what was left out, and whether anything was learnt."""
    from trimtab.training.run import DO

    best, data = done.best, [str(tally) for tally in done.material.counts]
    if output.json:
        runs = [
            {"lr": each.lr, "step": each.step, "steps": each.steps, "best": each is best,
             **each.metrics}
            for each in done.runs
        ]  # fmt: skip
        facts = {"folder": str(done.folder), "constant": best.constant, "remark": best.remark}
        print_json({**facts, "runs": runs, "data": data})
        return
    for each in done.runs:
        rest = ", ".join(f"{k} {v:.4f}" for k, v in each.metrics.items() if k != "error")
        print(f"{'*' if each is best else ' '} lr {each.lr:g}: validation error {each.error:.4f} "
              f"at update {each.step} of {each.steps} ({rest})")  # fmt: skip
    for tally in data:
        print(f"learnt from and validated on {tally}")
    print(f"guide in {done.folder}; a constant's validation error is {best.constant:.4f}")
    if best.remark:
        print(f"WARNING: the guide is {best.remark}; {DO}")
