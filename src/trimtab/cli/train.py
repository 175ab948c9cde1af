"""`trimtab train`: a guide from rollouts, or from preferences."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from trimtab.cli.options import (
    RUN,
    Count,
    OutputOptions,
    panel,
    quiet_libraries,
    settings,
    use_threads,
)
from trimtab.cli.screen import Meter, print_json, progress
from trimtab.errors import TrimtabWarning, UsageError

if TYPE_CHECKING:
    from trimtab.training.run import OnRun, Trained


WHAT = Group.create_ordered("What", sort_key=2)


@panel(WHAT)
@dataclass(frozen=True, kw_only=True)
class WhatOptions:
    """What is learnt, from what. None leaves a setting as --config or `TrainConfig` has it.

    Attributes:
        out: The guide's folder.
        learn: Which of the data's rewards is learnt, or a sum: 'sentiment + 0.5*similarity'.
        set_: A parameter of the objective: lambda_=0.9, bootstrap=exact, prefixes=2; may repeat.
        validation: Labels by `trimtab collect --validation`; their topics are held out.
        held_out: Share of topics to validate on. Default: 0.1.
        unit: One unit of score: of the reward, or a standard deviation. Default: reward.
        store: Precision of the trained weights on disk. Default: float32.
        name: The guide's name. Default: the folder's.
    """

    out: Annotated[Path | None, Parameter(alias="-o")] = None
    learn: Annotated[str | None, Parameter(allow_leading_hyphen=True)] = None
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = ()
    validation: Path | None = None
    held_out: float | None = None
    unit: Literal["reward", "std"] | None = None
    store: Literal["float32", "bfloat16"] | None = None
    name: str | None = None


@panel(Group.create_ordered("Network", sort_key=2))
@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """What learns.

    Attributes:
        model: The base. Default: smollm2.
        layers: How many of its first layers to use. Default: all.
        lora_rank: 0 trains the layers themselves. Default: 32.
        lora_alpha: Scales the adapter by alpha / rank. Default: 32.
    """

    model: str | None = None
    layers: Count | None = None
    lora_rank: int | None = None
    lora_alpha: Count | None = None


@panel(RUN)
@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """How it learns.

    Attributes:
        lr: LR,LR: one run each; the lowest validation error wins. Default: 1e-4,3e-4,1e-3.
        head_lr: Learning rate of the head. Default: 1e-3.
        epochs: Passes over the data. Default: 1.
        batch_size: Responses, or pairs, of an update. Default: 32.
        accumulation: Parts of an update. Default: 1.
        warmup: Share of updates. Default: 0.05.
        weight_decay: Of the backbone's weights. Default: 0.
        clip: Largest norm of a gradient. Default: 1.
        evaluations: Validations per epoch. Default: 2.
        max_length: Tokens; longer ones are left out. Default: 512.
        seed: Decides every draw. Default: 0.
        bf16: Compute in bfloat16.
        gradient_checkpointing: Less memory, more time.
        device: cpu, cuda, ...; default: what is there.
        tensorboard: TensorBoard's logs too.
    """

    lr: str | None = None
    head_lr: float | None = None
    epochs: Count | None = None
    batch_size: Count | None = None
    accumulation: Count | None = None
    warmup: float | None = None
    weight_decay: float | None = None
    clip: float | None = None
    evaluations: Count | None = None
    max_length: int | None = None
    seed: int | None = None
    bf16: bool | None = None
    gradient_checkpointing: bool | None = None
    device: str | None = None
    tensorboard: bool | None = None


def train(
    objective: str | None = None,
    *data: str,
    config: Annotated[Path | None, Parameter(alias="-c", group=WHAT)] = None,
    what: WhatOptions = WhatOptions(),
    overwrite: Annotated[bool, Parameter(negative="", group=WHAT)] = False,
    network: NetworkOptions = NetworkOptions(),
    fit: FitOptions = FitOptions(),
    threads: Annotated[Count | None, Parameter(group=RUN)] = None,
    processes: Annotated[Count | None, Parameter(group=RUN)] = None,
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
        overwrite: Replace a guide that is there.
        threads: CPU threads of each process.
        processes: How many must train together, else stop.
    """
    from trimtab.training.config import make_config, read_config

    given: dict[str, Any] = {"objective": objective, "data": list(data)}
    for options in (what, network, fit):
        given |= {field.name: getattr(options, field.name) for field in fields(options)}
    given |= {"lr": _rates(fit.lr), "settings": {k: v[-1] for k, v in settings(what.set_).items()}}
    given |= {name: str(given[name]) for name in ("out", "validation") if given[name]}
    del given["set_"]
    given = {key: value for key, value in given.items() if value not in (None, [], {})}
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
        _print_json(done) if output.json else _print(done)


def _rates(text: str | None) -> list[float] | None:
    """`1e-4,3e-4` as numbers."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(
            "--lr must be numbers with commas between them", got=repr(text), do="e.g. 1e-4,3e-4"
        ) from error


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


def _print(done: Trained) -> None:
    """Every run's validation error, what was left out, and whether anything was learnt."""
    from trimtab.training.fit import DO

    for each in done.runs:
        mark = "*" if each is done.best else " "
        rest = ", ".join(f"{k} {v:.4f}" for k, v in each.metrics.items() if k != "error")
        print(f"{mark} lr {each.lr:g}: validation error {each.error:.4f} at update {each.step} of "
              f"{each.steps} ({rest})")  # fmt: skip
    for tally in done.material.counts:
        print(f"learnt from and validated on {tally}")
    print(f"guide in {done.folder}; a constant's validation error is {done.best.constant:.4f}")
    if done.best.remark:
        print(f"WARNING: the guide is {done.best.remark}; {DO}")


def _print_json(done: Trained) -> None:
    runs = [
        {"lr": each.lr, "step": each.step, "steps": each.steps, "best": each is done.best,
         **each.metrics}
        for each in done.runs
    ]  # fmt: skip
    data = [str(tally) for tally in done.material.counts]
    facts = {"folder": str(done.folder), "constant": done.best.constant}
    print_json({**facts, "remark": done.best.remark, "runs": runs, "data": data})
