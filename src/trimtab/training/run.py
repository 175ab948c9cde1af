"""From a config to a guide: read the data, run each learning rate, keep the best, save it.

groups or preferences --objective--> material --each lr--> runs --lowest error--> guide folder
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments

from trimtab.errors import CheckpointError, TrimtabWarning
from trimtab.guides import Identity, save_guide
from trimtab.models.transformers import TransformersLM
from trimtab.plugins import optional
from trimtab.training.batches import Tensors, next_scores, to_network
from trimtab.training.config import TrainConfig, make_config
from trimtab.training.data import Data, read_data
from trimtab.training.examples import Material
from trimtab.training.fit import DO, Fit, fit, writable
from trimtab.training.network import GuideNetwork, make_network
from trimtab.training.objectives import Objective
from trimtab.training.objectives import objective as find_objective
from trimtab.training.saving import to_guide
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
    lm = open_base(config.model, config.device)
    read = read_data(chosen, config, lm)
    fits = []
    for lr in config.lr:
        folder = Path(f"{target}.runs") / f"lr-{lr:g}"
        done, network = _run(folder, chosen, read, lm, config, lr, overwrite, on)
        fits.append(done)
        if done.error <= min(f.error for f in fits):
            best, kept = done, network
    if int(os.environ.get("RANK", "0")) == 0:
        with writable(target):
            _save(kept, chosen, read, lm, config, best, overwrite)
        if best.remark:
            warnings.warn(f"{target}: {best.remark}; {DO}", TrimtabWarning, stacklevel=2)
    return Trained(target, best, tuple(fits), read.material)


def open_base(model: str, device: str | None) -> TransformersLM:
    """The base in float32, each process of several on its own device."""
    local = os.environ.get("LOCAL_RANK")
    if device is None and local is not None and torch.cuda.is_available():
        device = f"cuda:{local}"
    loading: dict[str, Any] = {"device": device} if device else {}
    return TransformersLM(model, dtype=torch.float32, **loading)


def _save(
    network: GuideNetwork,
    objective: Objective,
    data: Data,
    lm: TransformersLM,
    config: TrainConfig,
    best: Fit,
    overwrite: bool,
) -> None:
    """Write the guide's folder: its weights, and all that is known of them."""
    name, material = config.name or Path(config.out).name, data.material
    dtype = getattr(torch, config.store)
    guide = to_guide(network, objective, material, lm, name=name, unit=config.unit, dtype=dtype)
    validation = {**best.metrics, "constant": best.constant}
    save_guide(
        guide,
        Path(config.out),
        storage="full" if network.adapter is None else "base",
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
        data={**data.facts, "counts": [counts.as_dict() for counts in material.counts]},
        reward={**(material.reward.as_dict() if material.reward else {}), "unit": config.unit},
        overwrite=overwrite,
    )


# --- one learning rate ---------------------------------------------------------------------------


def _run(
    folder: Path,
    objective: Objective,
    data: Data,
    lm: TransformersLM,
    config: TrainConfig,
    lr: float,
    overwrite: bool,
    on: OnRun | None,
) -> tuple[Fit, GuideNetwork]:
    """Train, or finish training, a network at one learning rate."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    batch = max(config.accumulation, config.batch_size // objective.share // world)
    network = make_network(
        lm.model,
        objective.head,
        layers=config.layers,
        lora_rank=config.lora_rank,
        lora_alpha=config.lora_alpha,
        start=objective.start(data.material.train),
        seed=config.seed,
    )
    if config.gradient_checkpointing:
        _checkpoint_gradients(network)
    args = arguments(
        config,
        folder,
        lr=lr,
        examples=len(data.material.train),
        batch=batch - batch % config.accumulation,
        on_cpu=lm.device.type == "cpu",
    )
    done = fit(
        network,
        objective,
        data.material,
        args,
        head_lr=config.head_lr,
        facts=_facts(config, data, world),
        reference=reference(lm.model, data.temperature) if objective.reference else None,
        overwrite=overwrite,
        on_progress=None if on is None else partial(on, lr),
    )
    return done, network


def arguments(
    config: TrainConfig, folder: Path, *, lr: float, examples: int, batch: int, on_cpu: bool
) -> TrainingArguments:
    """How long, how fast and in what parts a run trains, as transformers' own arguments.

    Args:
        config: its epochs, warm-up and evaluations.
        folder: the run's own.
        lr: of the backbone, at its highest; see `trimtab.training.trainer.rate`.
        examples: how many there are to learn from.
        batch: examples of one update on this process.
        on_cpu: stay on the CPU, even where there is an accelerator.

    Raises:
        UsageError: TensorBoard's package is missing.
    """
    if config.tensorboard:  # transformers would pass over its absence with a warning, or fail
        optional("tensorboard", "train", user="a log for TensorBoard")
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch // config.accumulation,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=lr,
        num_train_epochs=config.epochs,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        seed=config.seed,
        bf16=config.bf16,
        use_cpu=on_cpu,
        report_to="tensorboard" if config.tensorboard else "none",
        metric_for_best_model="error",
        greater_is_better=False,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        save_total_limit=1,  # beside the best one
        load_best_model_at_end=True,
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        ddp_find_unused_parameters=False,
    )
    updates = math.ceil(examples / (batch * max(1, args.world_size)))
    args.eval_steps = args.save_steps = max(1, updates // config.evaluations)
    args.logging_steps = max(1, args.eval_steps // 5)
    args.warmup_steps = math.ceil(config.warmup * updates * config.epochs)
    return args


def _checkpoint_gradients(network: GuideNetwork) -> None:
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


_NO_PART = ("lr", "out", "name", "unit", "store", "tensorboard")
"""Settings that have no part in what a run computes, or are said beside it."""


def _facts(config: TrainConfig, data: Data, world: int) -> dict[str, Any]:
    """What decides a run beside its learning rate: its settings, its examples, its processes."""
    material = data.material
    examples = repr((material.train, material.validation, material.labelled))
    settings = {k: v for k, v in config.as_dict().items() if k not in _NO_PART}
    return {**settings, "examples": sha256(examples.encode()).hexdigest()[:32], "processes": world}
