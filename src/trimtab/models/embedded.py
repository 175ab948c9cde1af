"""The embedded default: the model that answers when none is named."""

from __future__ import annotations

from pathlib import Path

from trimtab.assets import ASSETS, Asset, cache_dir, fetch, is_fetched, path_of
from trimtab.errors import UsageError

__all__ = [
    "DEFAULT_MODEL",
    "assets",
    "cache_dir",
    "fetch",
    "is_fetched",
    "locate",
    "path_of",
    "spells_path",
]

DEFAULT_MODEL = "smollm2"
"""SmolLM2-135M-Instruct; `trimtab assets fetch smollm2` brings it."""


def assets() -> tuple[Asset, ...]:
    """Returns every model that trimtab can fetch."""
    return ASSETS


def locate(model: str = DEFAULT_MODEL) -> str:
    """Turns the name of a fetched model into its folder; a path or Hub id stays as it is.

    Args:
        model: what the user named.

    Returns:
        What `from_pretrained` takes.

    Raises:
        NotFetchedError: a known name that is not on this machine yet.
        UsageError: a path where nothing is; the Hub is not asked for it.
    """
    if any(asset.name == model for asset in ASSETS):
        return str(path_of(model))
    if spells_path(model) and not Path(model).exists():
        raise UsageError("a folder must be there", got=f"nothing at {model!r}", do="check the path")
    return model


def spells_path(name: str) -> bool:
    """Whether a name can be a path alone: the Hub's names are NAME or ORG/NAME.

    >>> [spells_path(name) for name in ("./gpt2", "/models/gpt2", "models/mine/gpt2", "org/gpt2")]
    [True, True, True, False]
    """
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
