"""Steer a frozen language model towards a reward while it decodes.

    import trimtab as tt

    lm = tt.TransformersLM("smollm2")
    guide = tt.TextGuide(my_score, lm.decode)
    for done in tt.decode(lm, guide, tt.vas(beta=4.0), ["An opinion on trains, in one sentence."]):
        print(done.text)

Names load on first use, so importing trimtab imports neither torch nor transformers.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trimtab.decoding.loop import decode, decode_steps
    from trimtab.decoding.methods import (
        METHODS,
        Method,
        args,
        args_stochastic,
        best_of_n,
        cd,
        cd_blockwise,
        fudge,
        genarm,
        greedy,
        method,
        pargs,
        pargs_greedy,
        rad,
        sampling,
        vas,
    )
    from trimtab.errors import TrimtabError
    from trimtab.guides.checkpoint import load_guide, save_guide
    from trimtab.guides.compose import WeightedSum
    from trimtab.guides.reward import RewardGuide
    from trimtab.guides.text import TextGuide
    from trimtab.guides.transforms import Center, Clamp, LogSigmoid
    from trimtab.guides.value import ValueGuide
    from trimtab.guides.vocabulary import VocabularyGuide
    from trimtab.models.table import TableLM
    from trimtab.models.transformers import TransformersLM
    from trimtab.types import (
        Candidates,
        Completion,
        Cost,
        Prompt,
        Samples,
        Step,
        TopK,
        Vocabulary,
    )

__version__ = "0.1.0"

_HOMES = {
    "trimtab.decoding.loop": ("decode", "decode_steps"),
    "trimtab.decoding.methods": (
        "METHODS",
        "Method",
        "args",
        "args_stochastic",
        "best_of_n",
        "cd",
        "cd_blockwise",
        "fudge",
        "genarm",
        "greedy",
        "method",
        "pargs",
        "pargs_greedy",
        "rad",
        "sampling",
        "vas",
    ),
    "trimtab.errors": ("TrimtabError",),
    "trimtab.guides.checkpoint": ("load_guide", "save_guide"),
    "trimtab.guides.compose": ("WeightedSum",),
    "trimtab.guides.reward": ("RewardGuide",),
    "trimtab.guides.text": ("TextGuide",),
    "trimtab.guides.transforms": ("Center", "Clamp", "LogSigmoid"),
    "trimtab.guides.value": ("ValueGuide",),
    "trimtab.guides.vocabulary": ("VocabularyGuide",),
    "trimtab.models.table": ("TableLM",),
    "trimtab.models.transformers": ("TransformersLM",),
    "trimtab.types": (
        "Candidates",
        "Completion",
        "Cost",
        "Prompt",
        "Samples",
        "Step",
        "TopK",
        "Vocabulary",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # noqa: PLE0605  (mypy and users see the imports above)


def __getattr__(name: str) -> Any:
    """Import a public name from its home when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module 'trimtab' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return [*__all__, "__version__"]
