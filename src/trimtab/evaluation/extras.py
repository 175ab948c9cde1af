"""Packages that only measuring needs, imported when they are used."""

from __future__ import annotations

import importlib
from typing import Any

from trimtab.errors import UsageError


def extra(module: str) -> Any:
    """A module of the `eval` extra, such as `extra("scipy.stats")`.

    Raises:
        UsageError: the package is not installed; the message names the command.
    """
    package = module.split(".", maxsplit=1)[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"this measurement needs the package {package!r}",
            got=f"no module named {missing.name!r}",
            do="run: pip install 'trimtab[eval]'",
        ) from missing
