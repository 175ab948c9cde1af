"""Which model? Fingerprints that tell the results of one from another's.

A name may mean other weights tomorrow, so results are filed under what a model *is*: sampled
weights, the configuration, the tokenizer's map. Functions and guides have theirs from
`fingerprint`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
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

VALUES = 64
"""Numbers of each weight that enter its fingerprint: any training step changes most of them."""


def canonical(thing: object) -> str:
    """JSON with one spelling: sorted keys, no blanks, plain ASCII."""
    return json.dumps(thing, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(thing: object) -> str:
    """The first 32 hex digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(canonical(thing).encode()).hexdigest()[:32]


# --- models --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelId:
    """The base policy that results belong to.

    Attributes:
        name: what tables call it.
        weights: fingerprint of its weights and their precision.
        config: fingerprint of its configuration.
        tokenizer: fingerprint of its token-to-id map.
        base_temperature: divides the logits of pi_ref.
        base_top_p: the nucleus of pi_ref.
    """

    name: str
    weights: str
    config: str = ""
    tokenizer: str = ""
    base_temperature: float = 1.0
    base_top_p: float = 1.0

    def identity(self) -> dict[str, Any]:
        """What results depend on: everything but the name."""
        return {k: v for k, v in asdict(self).items() if k != "name"}


@singledispatch
def identify(lm: object) -> ModelId:
    """The identity of a language model; register your own kind with `identify.register`.

    Raises:
        UsageError: the kind of model is not known.
    """
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
    return _without(json.loads(json.dumps(config.to_dict(), default=str)), NOTED)


NOTED = ("_name_or_path", "architectures", "dtype", "transformers_version")
"""What tells nothing, or nothing that the weights don't; `save_pretrained` fills some of it in."""


def _without(found: Any, names: Sequence[str]) -> Any:
    """Nested mappings without some of their names."""
    if not isinstance(found, dict):
        return found
    return {k: _without(v, names) for k, v in found.items() if k not in names}


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
