"""From a config to a guide: read the data, run each learning rate, keep the best, save it.

groups or preferences --objective--> material --each lr--> runs --lowest error--> guide folder
"""

from __future__ import annotations

import copy
import math
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from trimtab.errors import CheckpointError, TrimtabWarning
from trimtab.guides import ValueGuide, VocabularyGuide, save_guide
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide
from trimtab.training.batches import collate, to_batch, to_network, token_scores
from trimtab.training.checkpoints import writable
from trimtab.training.config import TrainConfig, Unit, make_config
from trimtab.training.data import Data, read_data
from trimtab.training.examples import Example, Material
from trimtab.training.fit import DO, Fit, fit
from trimtab.training.network import GuideNetwork, rescale
from trimtab.training.objectives import Objective
from trimtab.training.objectives import objective as find_objective
from trimtab.training.objectives.preferences import at_end

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
        told = None if on is None else partial(on, lr)
        done, network = fit(
            config, lr, chosen, read, lm, folder, overwrite=overwrite, on_progress=told
        )
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


# --- the guide's folder --------------------------------------------------------------------------


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


def to_guide(
    network: GuideNetwork,
    objective: Objective,
    material: Material,
    lm: TransformersLM,
    *,
    name: str,
    unit: Unit,
    dtype: torch.dtype,
) -> Guide[Any]:
    """The guide that a trained network is; the network itself is put into its unit and rounded.

    Args:
        network: trained.
        objective: what by.
        material: what from.
        lm: the base.
        name: the guide's.
        unit: of its scores.
        dtype: precision of the trained weights on disk; the guide is rounded to it.
    """
    spread = final_spread(network, material.validation) if unit == "std" else 0.0
    rescale(network.head, *objective.rescaling(material.reward, spread, unit))
    _round(network, dtype)
    guide = make_guide(network, objective, lm, name)
    if network.adapter is not None:  # merged by now: what is left of it goes to the disk
        for parameter, weights in network.adapter.named_parameters():
            if "lora_" in parameter:
                weights.data = weights.data.to(dtype)
    return guide


def make_guide(
    network: GuideNetwork, objective: Objective, lm: TransformersLM, name: str
) -> Guide[Any]:
    """The guide that a network is as it stands; the adapter is merged into a copy of the layers."""
    backbone: Any = network.backbone
    if network.adapter is not None:
        backbone = copy.deepcopy(backbone).merge_and_unload()
    kind = ValueGuide if objective.head == "scalar" else VocabularyGuide
    guide: Guide[Any] = kind(backbone, network.head, vocab=lm.vocab, name=name)
    return objective.wrap(guide)


@torch.no_grad()
def _round(network: GuideNetwork, dtype: torch.dtype) -> None:
    """Round the trained weights, in place, to values that a precision can hold."""
    for weights in network.parameters():
        if weights.requires_grad:
            weights.copy_(weights.to(dtype))


@torch.no_grad()
def final_spread(network: GuideNetwork, examples: Sequence[Example]) -> float:
    """Standard deviation of the scores of finished responses."""
    network.eval()
    device = next(network.parameters()).device
    scores = []
    for start in range(0, len(examples), 8):
        tensors = collate(examples[start : start + 8], shared=network.shares)
        tensors = {name: tensor.to(device) for name, tensor in tensors.items()}
        each = token_scores(network(**to_network(tensors)), to_batch(tensors))
        scores.append(at_end(each, tensors["lengths"] - 1))
    every = torch.cat(scores).double()
    return float(every.std()) if len(every) > 1 else 0.0
