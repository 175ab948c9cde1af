"""How long, how fast and in what parts a run trains, as transformers' own arguments."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from trimtab.plugins import optional


def schedule(
    folder: Path,
    examples: int,
    *,
    lr: float,
    epochs: int,
    batch: int,
    accumulation: int = 1,
    warmup: float = 0.0,
    weight_decay: float = 0.0,
    clip: float = 1.0,
    evaluations: int = 1,
    seed: int = 0,
    bf16: bool = False,
    on_cpu: bool = False,
    tensorboard: bool = False,
) -> TrainingArguments:
    """The arguments of a run.

    Args:
        folder: the run's own.
        examples: how many there are to learn from.
        lr: of the backbone, at its highest; see `rate` for how it rises and falls.
        epochs: passes over the examples.
        batch: examples of one update on this process.
        accumulation: parts that it is computed in.
        warmup: share of the updates.
        weight_decay: of the backbone.
        clip: largest norm of a gradient.
        evaluations: per epoch; after each the weights are kept.
        seed: of the order.
        bf16: compute in bfloat16 under autocast.
        on_cpu: stay on the CPU, even where there is an accelerator.
        tensorboard: write TensorBoard's logs too.

    Raises:
        UsageError: TensorBoard's package is missing.
    """
    if tensorboard:
        _check_tensorboard()
    found = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch // accumulation,
        gradient_accumulation_steps=accumulation,
        learning_rate=lr,
        num_train_epochs=epochs,
        weight_decay=weight_decay,
        max_grad_norm=clip,
        seed=seed,
        bf16=bf16,
        use_cpu=on_cpu,
        report_to="tensorboard" if tensorboard else "none",
        metric_for_best_model="error",
        greater_is_better=False,
        **_FIXED,
    )
    updates = math.ceil(examples / (batch * max(1, found.world_size)))
    found.eval_steps = found.save_steps = max(1, updates // evaluations)
    found.logging_steps = max(1, found.eval_steps // 5)
    found.warmup_steps = math.ceil(warmup * updates * epochs)
    return found


def rate(update: int, *, warmup: int, updates: int) -> float:
    """The learning rate of an update, over its highest.

    It rises in equal steps to the highest, which the last update of the warm-up has, and falls in
    equal steps to 0, which the update after the last one would have: none has 0, so none is void.

    Args:
        update: counted from 0.
        warmup: updates in which it rises.
        updates: in all.

    >>> [rate(i, warmup=2, updates=5) for i in range(5)]
    [0.5, 1.0, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    if update < warmup:
        return (update + 1) / warmup
    return max(0.0, (updates - update) / max(1, updates - warmup))


_FIXED: dict[str, Any] = {
    "eval_strategy": "steps",
    "save_strategy": "steps",
    "logging_strategy": "steps",
    "save_total_limit": 1,  # beside the best one
    "load_best_model_at_end": True,
    "remove_unused_columns": False,
    "label_names": [],
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "ddp_find_unused_parameters": False,
}


def _check_tensorboard() -> None:
    """Raise `UsageError` where transformers would pass over it with a warning, or fail."""
    optional("tensorboard", "train", user="a log for TensorBoard")
