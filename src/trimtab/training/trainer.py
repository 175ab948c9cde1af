"""transformers' Trainer, told what an objective is: loss, order, learning rates, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Sampler
from transformers import Trainer

from trimtab.training.batches import (
    Batch,
    LikeLengths,
    Outputs,
    Tensors,
    collate,
    to_batch,
    to_network,
    token_scores,
)
from trimtab.training.examples import Example, Material
from trimtab.training.network import GuideNetwork
from trimtab.training.objectives import Objective
from trimtab.training.objectives.values import within
from trimtab.training.schedule import rate

Reference: TypeAlias = Callable[[Tensors], Float[Tensor, "B S V"]]
"""log pi_ref of every next token after every state of a batch."""


class GuideTrainer(Trainer):
    """One trainer for all objectives.

    Args:
        network: what is trained.
        objective: what it is trained by.
        material: what it learns from and is validated on; labelled prefixes, where there are some,
            decide which weights are best.
        head_lr: learning rate of the head; the backbone's is that of `args`.
        reference: log pi_ref, for objectives that take expectations.
        **options: of `Trainer`.
    """

    def __init__(
        self,
        network: GuideNetwork,
        objective: Objective,
        material: Material,
        *,
        head_lr: float,
        reference: Reference | None = None,
        **options: Any,
    ) -> None:
        self.network: GuideNetwork = network
        self.collate = partial(collate, shared=network.shares)
        self.objective: Objective = objective
        self.reference: Reference | None = reference
        self.head_lr = head_lr
        self.material = material
        super().__init__(
            model=network,
            train_dataset=cast("Any", material.train),
            eval_dataset=cast("Any", material.validation),
            data_collator=self.collate,
            **options,
        )
        self.model_accepts_loss_kwargs = False  # the loss is a mean over the batch

    # --- the loss --------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Tensors,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """The objective of what the network says."""
        outputs = model(**to_network(inputs))
        loss, _metrics = self.objective(outputs, self.batch(inputs))
        return (loss, outputs) if return_outputs else loss

    def batch(self, inputs: Tensors) -> Batch:
        """The part of a batch that the objective reads."""
        reference = None
        if self.objective.reference and self.reference is not None:
            reference = self.reference(inputs)
        return to_batch(inputs, reference)

    # --- order and rates -------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        sizes = [example.size for example in self.material.train]
        return LikeLengths(sizes, self.args.train_batch_size * self.args.world_size, self.args.seed)

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW with a learning rate for the backbone and one for the head."""
        if self.optimizer is None:
            head, body = split_parameters(self.network if model is None else model)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args)
            decay = self.args.weight_decay
            parts = [
                {"params": body, "weight_decay": decay},
                {"params": head, "weight_decay": 0.0, "lr": self.head_lr},
            ]
            self.optimizer = kind([part for part in parts if part["params"]], **options)
        return self.optimizer

    def create_scheduler(
        self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None
    ) -> torch.optim.lr_scheduler.LRScheduler:
        """The rates of `rate`; transformers' warm-up begins at 0."""
        if self.lr_scheduler is None:
            warmup = self.args.get_warmup_steps(num_training_steps)
            course = partial(rate, warmup=warmup, updates=num_training_steps)
            chosen = self.optimizer if optimizer is None else optimizer
            assert chosen is not None, "the optimizer is made first"
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(chosen, course)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    # --- validation ------------------------------------------------------------------------------

    def evaluate(self, *_: Any, metric_key_prefix: str = "eval", **__: Any) -> dict[str, float]:
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
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in measured.items()}
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
        """Means over examples, each process reading its share of the batches.

        Args:
            examples: what is asked.
            last: of each response's last token alone.
            value: what to put in the place of all that the network says.
        """
        sums: dict[str, Tensor] = {}
        for part in self._shares(examples):
            inputs = self._prepare_inputs(self.collate(part))
            if value is None:
                with self.compute_loss_context_manager():
                    outputs: Outputs = self.network(**to_network(inputs))
            else:
                outputs = Outputs(torch.full_like(inputs["place"], value, dtype=torch.float32))
            batch = self.batch(inputs)
            measured: dict[str, Tensor] = {}
            if self.objective.validated == "error":
                measured = squared_errors(outputs, batch, last=last)
            if self.objective.validated == "loss" or (value is None and not last):
                measured |= self._losses(outputs, batch, len(part))
            for name, pair in measured.items():
                sums[name] = sums.get(name, torch.zeros_like(pair)) + pair
        names = ["loss", "error", "accuracy"]
        table = torch.stack([sums.get(n, torch.zeros(2)).cpu().double() for n in names])
        total: Any = self.accelerator.reduce(table.to(self.args.device), "sum")
        return {
            name: float(row[0] / row[1])
            for name, row in zip(names, total, strict=True)
            if row[1] > 0
        }

    def _losses(self, outputs: Outputs, batch: Batch, n: int) -> dict[str, Tensor]:
        loss, metrics = self.objective(outputs, batch)
        kept = {"loss": loss} | {k: v for k, v in metrics.items() if k == "accuracy"}
        return {k: torch.stack([v.float() * n, torch.tensor(n).to(v)]) for k, v in kept.items()}

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


def split_parameters(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained weights of the head, and of the backbone."""
    trained = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    head = [p for name, p in trained if name.removeprefix("module.").startswith("head.")]
    body = [p for name, p in trained if not name.removeprefix("module.").startswith("head.")]
    return head, body


def squared_errors(outputs: Outputs, batch: Batch, *, last: bool) -> dict[str, Tensor]:
    """Sum and number of (score after a token - target)^2: of all tokens, or of each row's last."""
    each = token_scores(outputs, batch)
    where = within(batch.lengths, each.shape[1])
    if last:
        where = where & ~within(batch.lengths - 1, each.shape[1])
    errors = ((each - batch.rewards[:, None]) ** 2).masked_fill(~where, 0.0)
    return {"error": torch.stack([errors.sum(), where.sum().to(errors)])}
