"""Which model? What tells the results of one from another's, whatever its name.

A name may mean other weights tomorrow, so results are filed under what a model *is*: sampled
weights, the configuration, the tokenizer's map. Functions and guides have theirs from
`fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig

from trimtab.errors import UsageError
from trimtab.models.proposals import TableLM
from trimtab.models.transformers import TransformersLM


def canonical(thing: object) -> str:
    """JSON with one spelling: sorted keys, no blanks, plain ASCII."""
    return json.dumps(thing, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(thing: object) -> str:
    """The first 32 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(thing).encode()).hexdigest()[:32]


VALUES = 64
"""Numbers of each weight that enter a model's identity: any training step changes most of them."""

NOTED = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""What of a configuration tells nothing, or nothing that the weights don't."""


@dataclass(frozen=True)
class ModelId:
    """The base policy that results belong to: its name, and fingerprints of what it is."""

    name: str
    weights: str  # with their precision
    config: str = ""
    tokenizer: str = ""
    base_temperature: float = 1.0
    base_top_p: float = 1.0

    def identity(self) -> dict[str, Any]:
        """What results depend on: everything but the name."""
        return {k: v for k, v in asdict(self).items() if k != "name"}


@singledispatch
def identify(lm: object) -> ModelId:
    """The identity of a language model; register your own kind with `identify.register`."""
    raise UsageError(
        "results are filed under a model's fingerprint, so its kind must be known",
        got=type(lm).__name__,
        do="register a function with trimtab.runs.identity.identify.register",
    )


@identify.register
def _transformers(lm: TransformersLM) -> ModelId:
    return ModelId(
        name=Path(lm.model.name_or_path or "").name or lm.model.config.model_type,
        weights=weights_fingerprint(lm.model),
        config=digest(plain_config(lm.model.config)),
        tokenizer=lm.vocab.fingerprint or "",
        base_temperature=lm.base_temperature,
        base_top_p=lm.base_top_p,
    )


@identify.register
def _table(lm: TableLM) -> ModelId:
    root = lm.next_logprobs(()).tolist() + lm.next_logprobs((1,)).tolist()
    said = [*map(repr, root), lm.seed, repr(lm.spread)]
    return ModelId(f"table-{lm.vocab.size}", weights=digest(said))


def plain_config(config: PreTrainedConfig) -> Any:
    """A configuration as JSON types, without where it was loaded and what saving notes in it."""

    def known(names: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in names.items() if name not in NOTED}

    return json.loads(json.dumps(config.to_dict(), default=str), object_hook=known)


def weights_fingerprint(net: nn.Module) -> str:
    """Hash of every tensor's name, shape, precision and 64 of its values, evenly spaced."""
    found = hashlib.sha256()
    for name, weights in sorted(net.state_dict().items()):
        flat = weights.detach().flatten()
        many = min(VALUES, len(flat))
        at = torch.arange(many) * (len(flat) - 1) // max(many - 1, 1)
        values = flat[at.to(flat.device)].to(torch.float64).cpu().numpy().tobytes()
        found.update(f"{name}{tuple(weights.shape)}{weights.dtype}".encode() + values)
    return found.hexdigest()[:32]
