"""A reward of the user's own: `python:package.module:function` or `python:file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from trimtab.errors import UnknownNameError, UsageError
from trimtab.protocols import Reward
from trimtab.rewards.texts import as_reward


def from_python(spec: str) -> Reward:
    """The function that `module:function` or `file.py:function` names.

    It is called as `function(prompts, responses)` with two lists of texts, or, where its first
    parameter is named `samples`, with samples for prompts; and returns one number each.

    Raises:
        UsageError: no such module or file, or one that fails when it is imported.
        UnknownNameError: it has no such function; near names are offered.
    """
    where, colon, name = spec.rpartition(":")
    if not colon or not where or not name:
        raise UsageError(
            "a Python reward must be python:MODULE:FUNCTION or python:FILE.py:FUNCTION",
            got=f"python:{spec}",
            do="name both",
        )
    module = _module(where)
    if not hasattr(module, name):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"a function of {where}", name, known)
    function = getattr(module, name)
    if not callable(function):
        raise UsageError(
            f"{where} must define the function {name}",
            got=f"{type(function).__name__} of that name",
            do="name a function",
        )
    return as_reward(function)


def _module(where: str) -> ModuleType:
    """The imported module or file; its own failure is the user's to see in one line."""
    try:
        if where.endswith(".py"):
            return _file(Path(where))
        if "" not in sys.path:
            sys.path.insert(0, "")  # a module beside the user, as `python -m` would find it
        return importlib.import_module(where)
    except Exception as error:
        raise UsageError(
            f"{where} must be a Python module or file that can be imported",
            got=f"{type(error).__name__}: {error}",
            do="check the path and run it alone",
        ) from error


def _file(path: Path) -> ModuleType:
    path = path.resolve()
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # modules beside it, as `python FILE.py` finds them
    found = importlib.util.spec_from_file_location(path.stem, path)
    if found is None or found.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module
