"""Packages that only some rewards need, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from trimtab.errors import UsageError


def package(module: str, *, reward: str, extra: str) -> Any:
    """A module of one of the extras.

    Args:
        module: such as "sacrebleu.metrics".
        reward: what needs it.
        extra: which of trimtab's extras brings it.

    Raises:
        UsageError: the package is not installed; the message names the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"the reward {reward!r} needs the package {module.split('.', maxsplit=1)[0]}",
            got=f"no module named {missing.name!r}",
            do=f"run: pip install 'trimtab[{extra}]'",
        ) from missing
