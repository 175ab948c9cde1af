"""How long, how fast and in what parts a run trains."""

from __future__ import annotations

import math
from pathlib import Path

from transformers import TrainingArguments

from trimtab.plugins import optional
from trimtab.training.config import TrainConfig


def arguments(
    config: TrainConfig, folder: Path, *, lr: float, examples: int, batch: int, on_cpu: bool
) -> TrainingArguments:
    """How long, how fast and in what parts a run trains, as transformers' own arguments.

    Args:
        config: its epochs, warm-up and evaluations.
        folder: the run's own.
        lr: of the backbone, at its highest; see `rate`.
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
