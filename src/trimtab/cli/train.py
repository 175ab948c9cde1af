"""`trimtab train`: a guide from rollouts, or from preferences."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from trimtab.cli import train_options as o

if TYPE_CHECKING:
    from trimtab.training.run import OnRun, Trained


def train(
    objective: o.ObjectiveName = None,
    data: o.Data = None,
    out: o.Out = None,
    config: o.Config = None,
    learn: o.Learn = None,
    setting: o.Set = None,
    validation: o.Validation = None,
    held_out: o.HeldOut = None,
    unit: o.UnitName = None,
    store: o.Store = None,
    name: o.Name = None,
    overwrite: o.Overwrite = False,
    model: o.Model = None,
    layers: o.Layers = None,
    lora_rank: o.LoraRank = None,
    lora_alpha: o.LoraAlpha = None,
    lr: o.Lr = None,
    head_lr: o.HeadLr = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    accumulation: o.Accumulation = None,
    warmup: o.Warmup = None,
    weight_decay: o.WeightDecay = None,
    clip: o.Clip = None,
    evaluations: o.Evaluations = None,
    max_length: o.MaxLength = None,
    seed: o.Seed = None,
    bf16: o.Bf16 = None,
    gradient_checkpointing: o.GradientCheckpointing = None,
    device: o.Device = None,
    tensorboard: o.Tensorboard = None,
    threads: o.Threads = None,
    processes: o.Processes = None,
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
    """
    from trimtab.cli.building import quiet_libraries
    from trimtab.errors import TrimtabWarning
    from trimtab.training.config import make_config, read_config

    given: dict[str, Any] = {
        "objective": objective, "data": data, "out": out and str(out), "learn": learn,
        "settings": _settings(setting), "validation": validation and str(validation),
        "held_out": held_out, "unit": unit, "store": store, "name": name, "model": model,
        "layers": layers, "lora_rank": lora_rank, "lora_alpha": lora_alpha,
        "lr": _rates(lr), "head_lr": head_lr,
        "epochs": epochs, "batch_size": batch_size, "accumulation": accumulation,
        "warmup": warmup, "weight_decay": weight_decay, "clip": clip, "evaluations": evaluations,
        "max_length": max_length, "seed": seed, "bf16": bf16,
        "gradient_checkpointing": gradient_checkpointing, "device": device,
        "tensorboard": tensorboard,
    }  # fmt: skip
    said = {key: value for key, value in given.items() if value not in (None, [], {})}
    wanted = read_config(config, **said) if config else make_config(said)
    _check_processes(processes)
    quiet_libraries()
    _use_threads(threads)
    from trimtab.training.run import train as run

    with _bar(wanted.lr) as on, warnings.catch_warnings():
        warnings.simplefilter("ignore", TrimtabWarning)  # said last, in `_print`
        done = run(wanted, overwrite=overwrite, on=on)
    if os.environ.get("RANK", "0") == "0":
        _print(done)


def _settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """`--set lambda_=0.9` as names and values."""
    from trimtab.errors import UsageError

    found: dict[str, Any] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(
                "--set must be NAME=VALUE", got=repr(pair), do="e.g. --set lambda_=0.9"
            )
        try:
            found[key] = json.loads(value)
        except ValueError:  # a word, such as bootstrap=exact
            found[key] = value
    return found


def _rates(text: str | None) -> list[float] | None:
    """`1e-4,3e-4` as numbers."""
    from trimtab.errors import UsageError

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
    from trimtab.errors import UsageError

    found = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted is not None and wanted != found:
        raise UsageError(
            f"--processes says that {wanted} processes train together",
            got=f"{found}",
            do=f"start them with: torchrun --nproc-per-node {wanted} -m trimtab train ...",
        )


def _use_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


@contextmanager
def _bar(rates: Sequence[float]) -> Iterator[OnRun]:
    """A bar on stderr for each learning rate, with its loss and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Left

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
    quiet = not sys.stderr.isatty() or os.environ.get("RANK", "0") != "0"
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        tasks = {lr: bar.add_task(f"lr {lr:g}", total=None, start=False) for lr in rates}
        started: set[float] = set()

        def on(lr: float, step: int, steps: int, logs: Mapping[str, float]) -> None:
            if lr not in started:
                started.add(lr)
                bar.start_task(tasks[lr])
            bar.update(tasks[lr], completed=step, total=steps)
            if "eval_error" in logs:
                bar.update(tasks[lr], description=f"lr {lr:g}  error {logs['eval_error']:.4f}")

        yield on


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
