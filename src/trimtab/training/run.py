"""From a config to a guide: read the data, run each learning rate, keep the best, save it.

groups or preferences --objective--> material --each lr--> runs --lowest error--> guide folder

Each run has a folder, which may be left at any moment:

<out>.runs/lr-<lr>/run.json             what the run is; a folder of another run is refused
<out>.runs/lr-<lr>/log.jsonl            loss, learning rate and validation, one line per report
<out>.runs/lr-<lr>/checkpoint-<n>/      transformers' checkpoints, while the run lasts
<out>.runs/lr-<lr>/best.safetensors     the trained weights with the lowest validation error
<out>.runs/lr-<lr>/result.json          written last: the run is done
"""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from trimtab.cache.networks import text_config
from trimtab.errors import CheckpointError, DataError, OutputError, TrainingError, TrimtabWarning
from trimtab.files import write_atomic
from trimtab.guides import save_guide
from trimtab.models.transformers import TransformersLM
from trimtab.training.config import TrainConfig, make_config
from trimtab.training.data import read_data
from trimtab.training.examples import Material
from trimtab.training.network import (
    GuideNetwork,
    final_spread,
    make_network,
    reference,
    rescale,
    to_guide,
    with_states,
)
from trimtab.training.objectives import Objective
from trimtab.training.objectives import objective as find_objective
from trimtab.training.trainer import GuideTrainer, Log, OnProgress, arguments, rows_of

OnRun = Callable[[float, int, int, Mapping[str, float]], object]
"""Called with the learning rate, updates done, updates in all, and what was reported now."""

NO_PART = ("lr", "out", "name", "unit", "store", "tensorboard")
"""Settings that have no part in what a run computes, or are said beside it."""

ROUNDING = 1e-4
"""Share of a constant's error that sums in float32 may be off by."""

DO = "train longer, on more data or at other learning rates; decoding by it is decoding by noise"
"""What to do about a guide that is no better than a constant."""


@dataclass(frozen=True)
class Fit:
    """A run that is done."""

    lr: float
    error: float  # the lowest validation error
    metrics: Mapping[str, float]  # all that was measured there
    step: int  # updates until then
    steps: int  # updates in all
    constant: float  # the validation error of one number for every text, the best such number

    @property
    def remark(self) -> str:
        """That it is no better than a constant, in words; "" where it is."""
        return no_better(self.error, self.constant)


def no_better(error: float, constant: float) -> str:
    """That a validation error is not below a constant's, in words; "" where it is."""
    if error < (1 - ROUNDING) * constant:
        return ""
    return (
        f"no better than a constant: validation error {error:.4f}, where saying the same of every "
        f"text has {constant:.4f}"
    )


@dataclass(frozen=True)
class Trained:
    """What a training gave.

    Attributes:
        folder: the guide's.
        best: the run whose weights it has.
        runs: one for each learning rate.
        material: what they learnt from.
    """

    folder: Path
    best: Fit
    runs: tuple[Fit, ...]
    material: Material


def train(
    objective: str | TrainConfig,
    data: str | Path | Sequence[str | Path] = (),
    out: str | Path = "",
    *,
    overwrite: bool = False,
    on: OnRun | None = None,
    **settings: Any,
) -> Trained:
    """Train a guide. A training that was killed goes on where it stood when it is called again.

    Beside `out` a folder `<out>.runs` keeps each learning rate's log; it can be removed when the
    guide is there.

        tt.train("td-lambda", "rollouts", "my-guide", learn="sentiment", layers=8)

    Args:
        objective: one of `trimtab.training.objectives.OBJECTIVES`, or a config that holds all
            that follows.
        data: folders of groups, as `collect` writes them, or files of preferences.
        out: the guide's folder.
        overwrite: replace a guide that is there, and what other settings left in `<out>.runs`.
        on: told after every update.
        **settings: the other fields of `TrainConfig`.

    Raises:
        CheckpointError: the guide is there already.
        UsageError: the settings cannot be meant.
        DataError: there is nothing to learn from, or it is damaged.
        TrainingError: a learning rate went nowhere: to NaN, or not away from its start.
        OutputError: no room on the disk, no right to write.

    Warns:
        TrimtabWarning: the guide is no better than a constant.
    """
    if isinstance(objective, TrainConfig):
        config = objective
    else:
        sources = [data] if isinstance(data, str | Path) else data
        plain = {"objective": objective, "data": list(map(str, sources)), "out": str(out)}
        config = make_config({**plain, **settings})
    target = Path(config.out)
    if target.exists() and not overwrite:
        raise CheckpointError(
            f"{target} must not exist yet", got="something there", do="pass --overwrite"
        )
    chosen = find_objective(config.objective, **config.settings)
    device = config.device
    if device is None and "LOCAL_RANK" in os.environ and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"  # each process of several has its own
    loading: dict[str, Any] = {"device": device} if device else {}
    lm = TransformersLM(config.model, dtype=torch.float32, **loading)
    material = read_data(chosen, config, lm)
    if config.reads == "states":
        layer = config.layers or text_config(lm.model).num_hidden_layers
        read = partial(
            with_states, base=lm.model, layer=layer, folder=Path(f"{target}.runs/states"),
            bf16=config.bf16,
        )  # fmt: skip
        material = replace(
            material,
            train=read(material.train),
            validation=read(material.validation),
            labelled=read(material.labelled),
        )
    fits = []
    for lr in config.lr:
        folder = Path(f"{target}.runs") / f"lr-{lr:g}"
        told = None if on is None else partial(on, lr)
        done, network = fit(
            config, lr, chosen, material, lm, folder, overwrite=overwrite, on_progress=told
        )
        fits.append(done)
        if done.error <= min(f.error for f in fits):
            best, kept = done, network
    if int(os.environ.get("RANK", "0")) == 0:
        with writable(target):
            _save(kept, chosen, material, lm, config, best, overwrite)
        if best.remark:
            warnings.warn(f"{target}: {best.remark}; {DO}", TrimtabWarning, stacklevel=2)
    return Trained(target, best, tuple(fits), material)


def _save(
    network: GuideNetwork,
    objective: Objective,
    material: Material,
    lm: TransformersLM,
    config: TrainConfig,
    best: Fit,
    overwrite: bool,
) -> None:
    """Write the guide's folder: its weights in the guide's unit, and all that is known of them."""
    spread = final_spread(network, material.validation) if config.unit == "std" else 0.0
    rescale(network.head, *objective.rescaling(material.reward, spread, config.unit))
    name = config.name or Path(config.out).name
    guide = to_guide(network, objective, lm, name, getattr(torch, config.store))
    validation = {**best.metrics, "constant": best.constant}
    save_guide(
        guide,
        Path(config.out),
        storage="base" if network.adapter or config.reads == "states" else "full",
        adapter=network.adapter,
        base=config.model,
        template=lm.tokenizer.chat_template if lm.codec.template == "auto" else None,
        objective={
            "name": config.objective,
            "settings": asdict(objective),
            "training": config.as_dict(),
            "lr": best.lr,
            "validation": {k: v for k, v in validation.items() if math.isfinite(v)},
        },
        data={**material.facts, "counts": [counts.as_dict() for counts in material.counts]},
        reward={**(asdict(material.reward) if material.reward else {}), "unit": config.unit},
        overwrite=overwrite,
    )


# --- one run, at one learning rate ---------------------------------------------------------------


def fit(
    config: TrainConfig,
    lr: float,
    objective: Objective,
    material: Material,
    lm: TransformersLM,
    folder: Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Fit, GuideNetwork]:
    """Train a network at one learning rate of the backbone, or finish training it.

    The network has its best weights; `overwrite` clears a folder that is another run's.
    """
    network = _untrained(config, objective, material, lm)
    before = _hash(network)
    args = arguments(config, objective, folder, lr, len(material.train), lm.device.type)
    examples = repr((material.train, material.validation, material.labelled))
    facts = {
        **{k: v for k, v in config.as_dict().items() if k not in NO_PART},
        "lr": lr,
        "examples": sha256(examples.encode()).hexdigest()[:32],
        "processes": args.world_size,
    }
    with args.main_process_first(local=False):
        claim(folder, facts, overwrite=overwrite)
    if (done := read_fit(folder)) is not None:
        network.load_state_dict(load_file(folder / "best.safetensors"))
    else:
        trainer = GuideTrainer(
            network,
            objective,
            material,
            head_lr=config.head_lr,
            reference=reference(lm.model, material.temperature) if objective.reference else None,
            args=args,
            log=Log(folder / "log.jsonl", on_progress),
        )
        with writable(folder):
            trainer.train(resume_from_checkpoint=last_checkpoint(folder))
            done = _finish(folder, trainer, lr)
    if _hash(network) == before:
        raise TrainingError(
            "training must change the guide's weights",
            got=f"none changed in {done.step} updates at learning rate {lr:g} "
            f"(head {config.head_lr:g})",
            do="raise the rates, or bring responses that differ: all gradients were 0 or too small",
        )
    return done, network


def _untrained(
    config: TrainConfig, objective: Objective, material: Material, lm: TransformersLM
) -> GuideNetwork:
    network = make_network(
        lm.model,
        objective.head,
        layers=config.layers,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        start=objective.constant(rows_of(material.train)),
        seed=config.seed,
        width=config.width,
        reads=config.reads,
    )
    if config.gradient_checkpointing:
        backbone: Any = network.backbone
        with warnings.catch_warnings():  # its later name is not in every transformers 5
            warnings.simplefilter("ignore", FutureWarning)
            backbone.gradient_checkpointing_enable({"use_reentrant": False})
        backbone.enable_input_require_grads()
    return network


def _weights(network: GuideNetwork) -> dict[str, torch.Tensor]:
    """All that is trained, as it is written."""
    return {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}


def _hash(network: GuideNetwork) -> str:
    """A hash of all that is trained."""
    return sha256(save(_weights(network))).hexdigest()


def _finish(folder: Path, trainer: GuideTrainer, lr: float) -> Fit:
    """Keep the best weights and the figures, and clear the checkpoints away."""
    measured = [entry for entry in trainer.state.log_history if "eval_error" in entry]
    finite = [entry for entry in measured if math.isfinite(entry["eval_error"])]
    if not finite:
        raise TrainingError(
            "training must reach a finite validation error",
            got=f"none at learning rate {lr:g}",
            do="lower it, or look at log.jsonl for where it went wrong",
        )
    entry = min(finite, key=lambda e: e["eval_error"])
    metrics = {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    step, steps = int(entry["step"]), trainer.state.max_steps
    done = Fit(lr, entry["eval_error"], metrics, step, steps, trainer.constant_error())
    if trainer.is_world_process_zero():
        write_atomic(folder / "best.safetensors", save(_weights(trainer.network)))
        write_atomic(folder / "result.json", json.dumps(vars(done), indent=2) + "\n")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return done


# --- its folder ----------------------------------------------------------------------------------


def claim(folder: Path, facts: Mapping[str, Any], *, overwrite: bool) -> None:
    """Note what the run is; a folder of another run is cleared or refused."""
    path = folder / "run.json"
    ours = json.loads(json.dumps(facts))
    if path.is_file():
        theirs = json.loads(path.read_text(encoding="utf-8"))
        other = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
        if not other:
            return
        if not overwrite:
            got = ", ".join(f"{k} {theirs.get(k)!r} (now {ours.get(k)!r})" for k in other)
            raise DataError(
                f"{folder} must be of the same run",
                got=got,
                do="name another folder, remove it, or pass --overwrite",
            )
        shutil.rmtree(folder)
    write_atomic(path, json.dumps(ours, indent=2, sort_keys=True) + "\n")


def read_fit(folder: Path) -> Fit | None:
    """A run's result; None while it is not done."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        return Fit(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path} must be as training wrote it",
            got=" ".join(str(error).split()),
            do=f"remove {folder} and train again",
        ) from error


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; one that was cut off has no state and is removed."""
    paths = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for path in reversed(paths):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        return str(path)
    return None


_DISK = (
    "PytorchStreamWriter",
    "No space left",
    "unexpected pos",
    "enforce fail at inline_container",
)
"""What torch says of a full disk, in errors of its own."""


@contextmanager
def writable(folder: Path) -> Iterator[None]:
    """Turns a failed write of a training into an `OutputError`."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        message = " ".join(str(error).split())
        if isinstance(error, RuntimeError) and not any(sign in message for sign in _DISK):
            raise
        raise OutputError(
            f"{folder} must be writable, on a disk with room",
            got=message[:200],
            do="make room and run it again: it goes on from the last whole checkpoint",
        ) from error
