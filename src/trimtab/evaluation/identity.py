"""Which model, which guide, which reward? Fingerprints that tell results apart.

A name may mean other weights tomorrow, so results are filed under what the parts *are*: sampled
weights, the configuration, the tokenizer's map, the source text of a function.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trimtab.errors import UsageError
from trimtab.evaluation.flops import Shape
from trimtab.models.table import TableLM
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
        shape: what its cost depends on; None where unknown. No part of its identity.
    """

    name: str
    weights: str
    config: str = ""
    tokenizer: str = ""
    base_temperature: float = 1.0
    base_top_p: float = 1.0
    shape: Shape | None = field(default=None, compare=False)

    def identity(self) -> dict[str, Any]:
        """What results depend on: everything but the name and the cost."""
        return {k: v for k, v in asdict(self).items() if k not in ("name", "shape")}


@singledispatch
def identify(lm: object) -> ModelId:
    """The identity of a language model; register your own kind with `identify.register`.

    Raises:
        UsageError: the kind of model is not known.
    """
    raise UsageError(
        "results are filed under a model's fingerprint, so its kind must be known",
        got=type(lm).__name__,
        do="register a function with trimtab.evaluation.identity.identify.register",
    )


@identify.register
def _transformers(lm: TransformersLM) -> ModelId:
    config = lm.model.config.to_dict()
    for volatile in ("_name_or_path", "transformers_version"):
        config.pop(volatile, None)
    return ModelId(
        name=Path(lm.model.name_or_path or "").name or lm.model.config.model_type,
        weights=weights_fingerprint(lm.model),
        config=digest(json.loads(json.dumps(config, default=str))),
        tokenizer=lm.vocab.fingerprint or "",
        base_temperature=lm.base_temperature,
        base_top_p=lm.base_top_p,
        shape=Shape.of(lm.model),
    )


@identify.register
def _table(lm: TableLM) -> ModelId:
    root = lm.next_logprobs(()).tolist() + lm.next_logprobs((1,)).tolist()
    return ModelId(f"table-{lm.vocab.size}", weights=digest([repr(x) for x in root]))


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


# --- functions -----------------------------------------------------------------------------------


def function_fingerprint(function: Callable[..., object]) -> str:
    """Hash of a function's or a callable object's source text, and of its bound arguments.

    An object that prints its parameters (a dataclass does) is told from one with others. What a
    function calls is not looked at: give a `fingerprint` where that may change.
    """
    if isinstance(function, partial):
        bound = repr((function.args, sorted(function.keywords.items())))
        return digest([function_fingerprint(function.func), bound])
    plain = inspect.isroutine(function) or inspect.isclass(function)
    told = repr(function)
    if plain or told.startswith("<"):  # the usual repr holds an address
        told = ""
    source: Any = function if plain else type(function)
    try:
        text = inspect.getsource(source)
    except (OSError, TypeError):  # built in, or typed at a prompt
        text = f"{getattr(source, '__module__', '')}.{getattr(source, '__qualname__', source)}"
    return digest([text, told])
