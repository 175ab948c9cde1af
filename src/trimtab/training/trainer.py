"""transformers' Trainer, told what an objective is: loss, order, learning rates, validation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from trimtab.files import apply_umask
from trimtab.plugins import optional
from trimtab.training.config import TrainConfig
from trimtab.training.examples import (
    Batch,
    Example,
    LikeLengths,
    Material,
    Outputs,
    Tensors,
    collate,
    to_batch,
    to_network,
    token_scores,
)
from trimtab.training.network import GuideNetwork, Reference
from trimtab.training.objectives import Objective
from trimtab.training.objectives.values import within

OnProgress: TypeAlias = Callable[[int, int, Mapping[str, float]], object]
"""Called with updates done, updates in all, and what was reported now (often nothing)."""


class GuideTrainer(Trainer):
    """One trainer for all objectives; `head_lr` is the head's rate, the backbone's is `args`'."""

    def __init__(
        self,
        network: GuideNetwork,
        objective: Objective,
        material: Material,
        *,
        head_lr: float,
        reference: Reference | None,
        args: TrainingArguments,
        log: Log,
    ) -> None:
        self.network: GuideNetwork = network
        self.objective: Objective = objective
        self.material = material
        self.head_lr = head_lr
        self.reference: Reference | None = reference
        self.collate = partial(collate, shared=network.shares)
        super().__init__(
            model=network,
            train_dataset=cast("Any", material.train),
            eval_dataset=cast("Any", material.validation),
            data_collator=self.collate,
            args=args,
            callbacks=[log],
        )
        self.remove_callback(PrinterCallback)
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch

    def compute_loss(self, model: nn.Module, inputs: Tensors, *_: Any, **__: Any) -> Any:
        """The objective of what the network says."""
        loss, _metrics = self.objective(model(**to_network(inputs)), self.batch(inputs))
        return loss

    def batch(self, inputs: Tensors) -> Batch:
        """The part of a batch that the objective reads."""
        return to_batch(inputs, None if self.reference is None else self.reference(inputs))

    # --- order and rates -------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        sizes = [example.size for example in self.material.train]
        return LikeLengths(sizes, self.args.train_batch_size * self.args.world_size, self.args.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a learning rate for the backbone and one for the head."""
        if self.optimizer is None:
            named = (model or self.network).named_parameters()
            trained = {name.removeprefix("module."): p for name, p in named if p.requires_grad}
            head = [p for name, p in trained.items() if name.startswith("head.")]
            body = [p for name, p in trained.items() if not name.startswith("head.")]
            parts = [
                {"params": body, "weight_decay": self.args.weight_decay},
                {"params": head, "weight_decay": 0.0, "lr": self.head_lr},
            ]
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = kind([part for part in parts if part["params"]], **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The rates of `rate`; transformers' warm-up begins at 0."""
        warmup = self.args.get_warmup_steps(num_training_steps)
        course = partial(rate, warmup=warmup, updates=num_training_steps)
        chosen: Any = optimizer or self.optimizer
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, course)
        return self.lr_scheduler

    # --- validation ------------------------------------------------------------------------------

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """The loss on held-out examples, and the error that decides which weights are best.

        The error is that of the score after every token against the reward that came, or against
        the labels where there are some; of pairs and labels of a class, the loss itself.
        """
        self.network.eval()
        measured = self._measure(self.material.validation)
        if self.material.labelled:
            measured["error"] = self._measure(self.material.labelled, last=True)["error"]
        elif self.objective.validated == "loss":
            measured["error"] = measured["loss"]
        metrics = {f"eval_{name}": value for name, value in measured.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def constant_error(self) -> float:
        """The error, as `evaluate` has it, of one number for every text: the best such number.

        A guide whose error is not below it knows nothing.
        """
        if self.objective.pairs:
            return math.log(2)  # a coin's
        labelled = self.material.labelled
        examples = labelled or self.material.validation
        value = self.objective.constant(rows_of(examples, last=bool(labelled)))
        measured = self._measure(examples, last=bool(labelled), value=value)
        return measured["error" if labelled else self.objective.validated]

    @torch.no_grad()
    def _measure(
        self, examples: Sequence[Example], *, last: bool = False, value: float | None = None
    ) -> dict[str, float]:
        """Mean loss, error and accuracy over examples, each process reading its share of them.

        The error of all tokens, or of each response's `last` alone; `value` stands in the place of
        all that the network says.
        """
        sums = {name: torch.zeros(2) for name in ("loss", "error", "accuracy")}  # and their numbers
        for part in self._shares(examples):
            inputs = self._prepare_inputs(self.collate(part))
            batch = self.batch(inputs)
            if value is None:
                with self.compute_loss_context_manager():
                    outputs: Outputs = self.network(**to_network(inputs))
            else:
                outputs = Outputs(torch.full_like(inputs["place"], value, dtype=torch.float32))
            if self.objective.validated == "error":
                sums["error"] += squared_errors(outputs, batch, last=last).cpu()
            if self.objective.validated == "loss" or (value is None and not last):
                loss, metrics = self.objective(outputs, batch)
                for name, mean in {"loss": loss, **metrics}.items():
                    if name in sums:
                        sums[name] += torch.tensor([float(mean) * len(part), len(part)])
        table = torch.stack(list(sums.values())).double().to(self.args.device)
        total: Any = self.accelerator.reduce(table, "sum")
        means = zip(sums, total.tolist(), strict=True)
        return {name: total / count for name, (total, count) in means if count}

    def _shares(self, examples: Sequence[Example]) -> Iterator[list[Example]]:
        """Batches of like lengths; every process has every n-th."""
        order = sorted(examples, key=lambda example: example.size)
        size = 2 * self.args.train_batch_size
        step = size * max(1, self.args.world_size)
        for start in range(size * self.args.process_index, len(order), step):
            yield order[start : start + size]


def rows_of(examples: Sequence[Example], *, last: bool = False) -> list[tuple[float, int]]:
    """Each response's target, and how many of its states are asked: after every token, or one."""
    rows = [row for example in examples for row in example.rows]
    return [(row.target, 1 if last else len(row.tokens)) for row in rows]


def squared_errors(outputs: Outputs, batch: Batch, *, last: bool) -> Tensor:
    """Sum and number of (score after a token - target)^2: of all tokens, or of each row's last."""
    each = token_scores(outputs, batch)
    where = within(batch.lengths, each.shape[1])
    if last:
        where = where & ~within(batch.lengths - 1, each.shape[1])
    errors = ((each - batch.rewards[:, None]) ** 2).masked_fill(~where, 0.0)
    return torch.stack([errors.sum(), where.sum().to(errors)])


# --- how long, how fast and in what parts --------------------------------------------------------


def arguments(
    config: TrainConfig, objective: Objective, folder: Path, lr: float, examples: int, device: str
) -> TrainingArguments:
    """A run's settings as transformers' own; `lr` is the backbone's at its highest."""
    if config.tensorboard:  # transformers would pass over its absence with a warning, or fail
        optional("tensorboard", "train", user="a log for TensorBoard")
    args = TrainingArguments(
        output_dir=str(folder),
        gradient_accumulation_steps=config.accumulation,
        learning_rate=lr,
        num_train_epochs=config.epochs,
        weight_decay=config.weight_decay,
        max_grad_norm=config.clip,
        seed=config.seed,
        bf16=config.bf16,
        use_cpu=device == "cpu",  # even where there is an accelerator
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
    world = max(1, args.world_size)
    # Examples of an update on this process: as many parts as accumulate, of one size.
    part = max(1, config.batch_size // objective.share // world // config.accumulation)
    updates = math.ceil(examples / (part * config.accumulation * world))
    args.per_device_train_batch_size = part
    args.eval_steps = args.save_steps = max(1, updates // config.evaluations)
    args.logging_steps = max(1, args.eval_steps // 5)
    args.warmup_steps = math.ceil(config.warmup * updates * config.epochs)
    return args


def rate(update: int, *, warmup: int, updates: int) -> float:
    """The learning rate of an update, counted from 0, over its highest.

    It rises in equal steps to the highest, which the last update of the warm-up has, and falls in
    equal steps to 0, which the update after the last one would have: none has 0, so none is void.

    >>> [rate(i, warmup=2, updates=5) for i in range(5)]
    [0.5, 1.0, 1.0, 0.6666666666666666, 0.3333333333333333]
    """
    if update < warmup:
        return (update + 1) / warmup
    return max(0.0, (updates - update) / max(1, updates - warmup))


class Log(TrainerCallback):
    """Writes what the trainer reports, a line at a time, and tells how far it is."""

    def __init__(self, path: Path, on_progress: OnProgress | None) -> None:
        self.path, self.on_progress = path, on_progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A report: loss and rate, or a validation."""
        if state.is_world_process_zero and logs:
            line = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **logs}
            with self.path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            if self.on_progress:
                self.on_progress(state.global_step, state.max_steps, logs)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is there: others may read it, as any file."""
        if state.is_world_process_zero:
            apply_umask(self.path.parent / f"checkpoint-{state.global_step}")

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """An update was made."""
        if state.is_world_process_zero and self.on_progress:
            self.on_progress(state.global_step, state.max_steps, {})
