"""From a config to a guide: read the data, run each learning rate, keep the best, save it.

groups or preferences --objective--> material --each lr--> runs --lowest error--> guide folder
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from trimtab.errors import CheckpointError, TrimtabWarning
from trimtab.guides import Identity
from trimtab.models.transformers import TransformersLM
from trimtab.training.baseline import DO
from trimtab.training.batches import next_scores
from trimtab.training.config import TrainConfig
from trimtab.training.examples import Tensors, to_network
from trimtab.training.fitting import Fit, OnProgress, fit, writable
from trimtab.training.material import Material
from trimtab.training.networks import GuideNetwork, make_network
from trimtab.training.objectives import Fudge, Objective, objective
from trimtab.training.reading import SHARE, Data, read_data
from trimtab.training.saving import save
from trimtab.training.schedule import schedule
from trimtab.training.trainer import Reference

OnRun = Callable[[float, int, int, Mapping[str, float]], object]
"""Called with the learning rate, updates done, updates in all, and what was reported now."""


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


def train(config: TrainConfig, *, overwrite: bool = False, on: OnRun | None = None) -> Trained:
    """Train a guide. A training that was killed goes on where it stood when it is called again.

    Beside `out` a folder `<out>.runs` keeps each learning rate's log; it can be removed when the
    guide is there.

    Args:
        config: everything that decides it.
        overwrite: replace a guide that is there.
        on: told after every update.

    Raises:
        CheckpointError: the guide is there already.
        UsageError: the settings cannot be meant.
        DataError: there is nothing to learn from, or it is damaged.
        TrainingError: a learning rate went nowhere: to NaN, or not away from its start.
        OutputError: no room on the disk, no right to write.

    Warns:
        TrimtabWarning: the guide is no better than a constant.
    """
    target = Path(config.out)
    if target.exists() and not overwrite:
        raise CheckpointError(
            f"{target} must not exist yet", got="something there", do="pass --overwrite"
        )
    goal = objective(config.objective, **config.settings)
    lm = open_base(config.model, config.device)
    data = read_data(goal, config, lm)
    runs = Path(f"{target}.runs")
    fits = []
    for lr in config.lr:
        found, network = _run(runs / f"lr-{lr:g}", goal, data, lm, config, lr, on)
        fits.append(found)
        if found.error <= min(f.error for f in fits):
            best, kept = found, network
    if int(os.environ.get("RANK", "0")) == 0:
        with writable(target):
            save(
                kept,
                goal,
                data.material,
                lm,
                target,
                name=config.name or target.name,
                base=config.model,
                unit=config.unit,
                store=config.store,
                objective={
                    "name": config.objective,
                    "settings": asdict(goal),  # type: ignore[call-overload]  # ours are dataclasses
                    "training": config.as_dict(),
                    "lr": best.lr,
                    "validation": {
                        k: v
                        for k, v in {**best.metrics, "constant": best.constant}.items()
                        if math.isfinite(v)
                    },
                },
                data=data.facts,
                overwrite=overwrite,
            )
        if best.remark:
            warnings.warn(f"{target}: {best.remark}; {DO}", TrimtabWarning, stacklevel=2)
    return Trained(target, best, tuple(fits), data.material)


def open_base(model: str, device: str | None) -> TransformersLM:
    """The base in float32, each process of several on its own device."""
    local = os.environ.get("LOCAL_RANK")
    if device is None and local is not None and torch.cuda.is_available():
        device = f"cuda:{local}"
    loading: dict[str, Any] = {"device": device} if device else {}
    return TransformersLM(model, dtype=torch.float32, **loading)


# --- one learning rate ---------------------------------------------------------------------------


def _run(
    folder: Path,
    goal: Objective,
    data: Data,
    lm: TransformersLM,
    config: TrainConfig,
    lr: float,
    on: OnRun | None,
) -> tuple[Fit, GuideNetwork]:
    """Train, or finish training, a network at one learning rate."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    rows = 1 if goal.pairs else SHARE
    batch = max(config.accumulation, config.batch_size // rows // world)
    batch -= batch % config.accumulation
    start = 0.0
    if goal.labels:
        targets = [row.target for example in data.material.train for row in example.rows]
        start = sum(targets) / len(targets)
        start = torch.logit(torch.tensor(start)).item() if isinstance(goal, Fudge) else start
    network = make_network(
        lm.model,
        goal.head,
        layers=config.layers,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        start=start,
        seed=config.seed,
    )
    if config.gradient_checkpointing:
        checkpointed(network)
    args = schedule(
        folder,
        len(data.material.train),
        lr=lr,
        epochs=config.epochs,
        batch=batch,
        accumulation=config.accumulation,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        clip=config.clip,
        evaluations=config.evaluations,
        seed=config.seed,
        bf16=config.bf16,
        on_cpu=lm.device.type == "cpu",
        tensorboard=config.tensorboard,
    )
    told: OnProgress | None = None if on is None else partial(on, lr)
    found = fit(
        network,
        goal,
        data.material,
        args,
        head_lr=config.head_lr,
        facts=_facts(config, data, world),
        reference=reference(lm.model, data.temperature) if goal.reference else None,
        on_progress=told,
    )
    return found, network


def checkpointed(network: GuideNetwork) -> None:
    """Have the backbone compute its activations twice instead of keeping them."""
    backbone: Any = network.backbone
    with warnings.catch_warnings():  # its later name is not in every transformers 5
        warnings.simplefilter("ignore", FutureWarning)
        backbone.gradient_checkpointing_enable({"use_reentrant": False})
    backbone.enable_input_require_grads()


def reference(base: PreTrainedModel, temperature: float | None) -> Reference:
    """log pi_ref of every next token, by the base itself at the rollouts' temperature."""
    network = GuideNetwork(base, Identity())

    @torch.no_grad()
    def logprobs(tensors: Tensors) -> torch.Tensor:
        scores = next_scores(network(**to_network(tensors)))
        return (scores / (temperature or 1.0)).log_softmax(-1)

    return logprobs


NO_PART = ("lr", "out", "name", "unit", "store", "tensorboard")
"""Settings that have no part in what a run computes, or are said beside it."""


def _facts(config: TrainConfig, data: Data, world: int) -> dict[str, Any]:
    """What decides a run beside its learning rate: its settings, its examples, its processes."""
    examples = repr((data.material.train, data.material.validation, data.material.labelled))
    settings = {k: v for k, v in config.as_dict().items() if k not in NO_PART}
    return {**settings, "examples": sha256(examples.encode()).hexdigest()[:32], "processes": world}
