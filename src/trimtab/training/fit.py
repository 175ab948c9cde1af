"""One run, at one learning rate: taken up where it stood, it gives its best weights."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn
from transformers import PreTrainedModel, PrinterCallback
from transformers.trainer_callback import ProgressCallback

from trimtab.errors import DataError, TrainingError
from trimtab.files import write_atomic
from trimtab.guides import Identity
from trimtab.models.transformers import TransformersLM
from trimtab.training.batches import Tensors, next_scores, to_network
from trimtab.training.checkpoints import Log, OnProgress, claim, last_checkpoint, writable
from trimtab.training.config import TrainConfig
from trimtab.training.data import Data
from trimtab.training.network import GuideNetwork, make_network
from trimtab.training.objectives import Objective
from trimtab.training.schedule import arguments
from trimtab.training.trainer import GuideTrainer, Reference, rows_of


@dataclass(frozen=True)
class Fit:
    """A run that is done.

    Attributes:
        lr: its learning rate.
        error: the lowest validation error (of `GuideTrainer.evaluate`).
        metrics: all that was measured there.
        step: updates until then.
        steps: updates in all.
        constant: the validation error of one number for every text, the best such number.
    """

    lr: float
    error: float
    metrics: Mapping[str, float]
    step: int
    steps: int
    constant: float

    @property
    def remark(self) -> str:
        """That it is no better than a constant, in words; "" where it is."""
        return no_better(self.error, self.constant)


ROUNDING = 1e-4
"""Share of a constant's error that sums in float32 may be off by."""

DO = "train longer, on more data or at other learning rates; decoding by it is decoding by noise"
"""What to do about a guide that is no better than a constant."""


def no_better(error: float, constant: float) -> str:
    """That a validation error is not below a constant's, in words; "" where it is."""
    if error < (1 - ROUNDING) * constant:
        return ""
    return (
        f"no better than a constant: validation error {error:.4f}, where saying the same of every "
        f"text has {constant:.4f}"
    )


def fit(
    config: TrainConfig,
    lr: float,
    objective: Objective,
    data: Data,
    lm: TransformersLM,
    folder: Path,
    *,
    overwrite: bool = False,
    on_progress: OnProgress | None = None,
) -> tuple[Fit, GuideNetwork]:
    """Train a network at one learning rate, or finish training it.

    Args:
        config: all that decides it beside the learning rate.
        lr: of the backbone.
        objective: what it learns by.
        data: what it learns from.
        lm: the base.
        folder: the run's own.
        overwrite: clear a folder that is another run's.
        on_progress: told after every update.

    Returns:
        The run's figures, and the network with its best weights.

    Raises:
        DataError: the folder is another run's, and it is not to be overwritten.
        TrainingError: no validation gave a finite error, or no weight was changed.
    """
    network = _untrained(config, objective, data, lm)
    before = weights_sum(network)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    batch = max(config.accumulation, config.batch_size // objective.share // world)
    args = arguments(
        config,
        folder,
        lr=lr,
        examples=len(data.material.train),
        batch=batch - batch % config.accumulation,
        on_cpu=lm.device.type == "cpu",
    )
    with args.main_process_first(local=False):
        claim(folder, {**_facts(config, data, world), "lr": lr}, overwrite=overwrite)
    if (done := read_fit(folder)) is not None:
        network.load_state_dict(load_file(folder / "best.safetensors"))
    else:
        trainer = GuideTrainer(
            network,
            objective,
            data.material,
            head_lr=config.head_lr,
            reference=reference(lm.model, data.temperature) if objective.reference else None,
            args=args,
            callbacks=[Log(folder / "log.jsonl", on_progress)],
        )
        done = _train(trainer, folder, lr)
    if weights_sum(network) == before:
        raise TrainingError(
            "training must change the guide's weights",
            got=f"none changed in {done.step} updates at learning rate {lr:g} "
            f"(head {config.head_lr:g})",
            do="raise the rates, or bring responses that differ: all gradients were 0 or too small",
        )
    return done, network


def _untrained(
    config: TrainConfig, objective: Objective, data: Data, lm: TransformersLM
) -> GuideNetwork:
    network = make_network(
        lm.model,
        objective.head,
        layers=config.layers,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        start=objective.constant(rows_of(data.material.train)),
        seed=config.seed,
    )
    if config.gradient_checkpointing:
        backbone: Any = network.backbone
        with warnings.catch_warnings():  # its later name is not in every transformers 5
            warnings.simplefilter("ignore", FutureWarning)
            backbone.gradient_checkpointing_enable({"use_reentrant": False})
        backbone.enable_input_require_grads()
    return network


def _train(trainer: GuideTrainer, folder: Path, lr: float) -> Fit:
    """Train from the last checkpoint to the end."""
    for chatty in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatty)
    with writable(folder):
        trainer.train(resume_from_checkpoint=last_checkpoint(folder))
        return _finish(folder, trainer, lr)


def reference(base: PreTrainedModel, temperature: float | None) -> Reference:
    """log pi_ref of every next token, by the base itself at the rollouts' temperature."""
    network = GuideNetwork(base, Identity())

    @torch.no_grad()
    def logprobs(tensors: Tensors) -> torch.Tensor:
        scores = next_scores(network(**to_network(tensors)))
        return (scores / (temperature or 1.0)).log_softmax(-1)

    return logprobs


def weights_sum(network: GuideNetwork) -> str:
    """A hash of all the weights that are trained."""
    total = sha256()
    for name, weights in network.state_dict().items():
        total.update(name.encode() + save({"": weights.detach().cpu().contiguous()}))
    return total.hexdigest()


def _finish(folder: Path, trainer: GuideTrainer, lr: float) -> Fit:
    """Keep the best weights and the figures, and clear the checkpoints away."""
    state = trainer.state
    best = [entry for entry in state.log_history if "eval_error" in entry]
    finite = [entry for entry in best if math.isfinite(entry["eval_error"])]
    if not finite:
        raise TrainingError(
            "training must reach a finite validation error",
            got=f"none at learning rate {lr:g}",
            do="lower it, or look at log.jsonl for where it went wrong",
        )
    entry = min(finite, key=lambda e: e["eval_error"])
    metrics = {k.removeprefix("eval_"): v for k, v in entry.items() if k.startswith("eval_")}
    constant = trainer.constant_error()
    steps = int(entry["step"]), state.max_steps
    done = Fit(lr, entry["eval_error"], metrics, *steps, constant=constant)
    if trainer.is_world_process_zero():
        net: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
        weights = {k: v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
        write_atomic(folder / "best.safetensors", save(weights))
        write_atomic(folder / "result.json", json.dumps(vars(done), indent=2) + "\n")
        for checkpoint in folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return done


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


_NO_PART = ("lr", "out", "name", "unit", "store", "tensorboard")
"""Settings that have no part in what a run computes, or are said beside it."""


def _facts(config: TrainConfig, data: Data, world: int) -> dict[str, Any]:
    """What decides a run beside its learning rate: its settings, its examples, its processes."""
    material = data.material
    examples = repr((material.train, material.validation, material.labelled))
    settings = {k: v for k, v in config.as_dict().items() if k not in _NO_PART}
    return {**settings, "examples": sha256(examples.encode()).hexdigest()[:32], "processes": world}
