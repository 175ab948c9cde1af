"""Doors of packages: their public names are imported when they are first used."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def door(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package whose import shall import nothing heavy.

    Its `__init__` says where names come from once, as types are checked by it, and lists them:

        if TYPE_CHECKING:
            from trimtab.guides.text import TextGuide

        __all__ = ["TextGuide"]
        __getattr__, __dir__ = door(__name__)
    """
    module = sys.modules[package]
    homes = _homes(Path(str(module.__file__)))

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(module, name, value)
        return value

    return getattr_, lambda: sorted({*vars(module), *homes})


def _homes(path: Path) -> dict[str, str]:
    """The module of each name that a file imports under `if TYPE_CHECKING`."""
    blocks = [
        node.body
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    imports = [line for body in blocks for line in body if isinstance(line, ast.ImportFrom)]
    return {name.name: str(line.module) for line in imports for name in line.names}
