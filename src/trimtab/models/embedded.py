"""The embedded default: the model that answers when none is named."""

from __future__ import annotations

from trimtab.assets import ASSETS, Asset, cache_dir, fetch, is_fetched, path_of

__all__ = ["DEFAULT_MODEL", "assets", "cache_dir", "fetch", "is_fetched", "locate", "path_of"]

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
    """
    if any(asset.name == model for asset in ASSETS):
        return str(path_of(model))
    return model
