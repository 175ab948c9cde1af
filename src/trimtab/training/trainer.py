"""transformers' Trainer, told what an objective is: loss, order, learning rates, validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler
from transformers import Trainer

from trimtab.training.baseline import spread
from trimtab.training.batches import Batch, Outputs, to_batch, token_scores
from trimtab.training.examples import Example, LikeLengths, Tensors, collate, to_network
from trimtab.training.networks import GuideNetwork
from trimtab.training.objectives import Objective, Rad
from trimtab.training.returns import within
from trimtab.training.schedule import rate

Reference: TypeAlias = Callable[[Tensors], Float[Tensor, "B S V"]]
"""log pi_ref of every next token after every state of a batch."""


class GuideTrainer(Trainer):
    """One trainer for all objectives.

    Args:
        network: what is trained.
        objective: what it is trained by.
        train: examples to learn from.
        validation: held-out examples.
        labelled: prefixes with labels; where there are some, they decide which weights are best.
        head_lr: learning rate of the head; the backbone's is that of `args`.
        reference: log pi_ref, for objectives that take expectations.
        **options: of `Trainer`.
    """

    def __init__(
        self,
        network: GuideNetwork,
        objective: Objective,
        train: Sequence[Example],
        validation: Sequence[Example],
        labelled: Sequence[Example] = (),
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
        self.examples, self.held_out, self.labelled = train, validation, labelled
        super().__init__(
            model=network,
            train_dataset=Examples(train),
            eval_dataset=Examples(validation),
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
        sizes = [example.size for example in self.examples]
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
        """The rates of `trimtab.training.schedule.rate`; transformers' warm-up begins at 0."""
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
        found = self._measure(self.held_out)
        if self.labelled:
            found["error"] = self._measure(self.labelled, last=True)["error"]
        elif self.objective.pairs or self.objective.labels:
            found["error"] = found["loss"]
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def constant_error(self) -> float:
        """The error, as `evaluate` has it, of one number for every text: the best such number.

        A guide whose error is not below it knows nothing. Of pairs it is log 2, a coin's.
        """
        if self.objective.pairs:
            return math.log(2)
        rows = [row for example in self.labelled or self.held_out for row in example.rows]
        states = [1 if self.labelled else len(row.tokens) for row in rows]
        if not self.objective.labels:
            return spread([row.target for row in rows], states)
        if isinstance(self.objective, Rad):  # its weights sum to one in every row
            best = fmean(row.target for row in rows)
        else:
            p = fmean([row.target for row in rows], [n + 1 for n in states])
            best = torch.tensor(p, dtype=torch.float64).logit(eps=1e-9).item()
        return self._measure(self.held_out, said=best)["loss"]

    @torch.no_grad()
    def _measure(
        self, examples: Sequence[Example], *, last: bool = False, said: float | None = None
    ) -> dict[str, float]:
        """Means over examples, each process reading its share of the batches.

        Args:
            examples: what is asked.
            last: of each response's last token alone.
            said: a value to put in the network's place.
        """
        sums: dict[str, Tensor] = {}
        for part in self._shares(examples):
            inputs = self._prepare_inputs(self.collate(part))
            if said is None:
                with self.compute_loss_context_manager():
                    outputs: Outputs = self.network(**to_network(inputs))
            else:
                outputs = Outputs(torch.full_like(inputs["place"], said, dtype=torch.float32))
            batch = self.batch(inputs)
            found = {} if last else self._losses(outputs, batch, len(part))
            if not self.objective.pairs:
                found |= squared_errors(outputs, batch, last=last)
            for name, pair in found.items():
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
        said = {"loss": loss} | {k: v for k, v in metrics.items() if k == "accuracy"}
        return {k: torch.stack([v.float() * n, torch.tensor(n).to(v)]) for k, v in said.items()}

    def _shares(self, examples: Sequence[Example]) -> Iterator[list[Example]]:
        """Batches of like lengths; every process has every n-th."""
        order = sorted(examples, key=lambda example: example.size)
        size = 2 * self.args.train_batch_size
        step = size * max(1, self.args.world_size)
        for at in range(size * self.args.process_index, len(order), step):
            yield order[at : at + size]


class Examples(Dataset[Example]):
    """Examples as torch asks for them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        """How many there are."""
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        """One of them."""
        return self.examples[index]


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
