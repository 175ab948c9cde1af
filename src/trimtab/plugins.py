"""Objects from outside the library: a user's own code, installed plugins, optional packages.

    python:path/to/file.py:NAME      a file of the user's
    python:package.module:NAME       a module that can be imported
    NAME                             what an installed package offers under one of `GROUPS`

A package offers a plugin in its pyproject.toml; the object stands for its name everywhere, on the
command line too:

    [project.entry-points."trimtab.rewards"]
    politeness = "my_package.rewards:politeness"

All of this runs code: load only what you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from trimtab.errors import PluginError, UnknownNameError, UsageError, check_word

PYTHON = "python:"
"""What the name of a user's own object begins with."""

Group: TypeAlias = Literal["trimtab.methods", "trimtab.guides", "trimtab.rewards", "trimtab.tasks"]
"""The entry points that are read."""


# --- the user's own code -------------------------------------------------------------------------


def load_object(spec: str, kind: str) -> Any:
    """The object that `python:FILE.py:NAME` or `python:MODULE:NAME` means.

    The folder of the file, or the working folder for a module, can be imported from, as when Python
    runs the file. A file is run each time that it is loaded, so worker processes load it again by
    the same text.

    Args:
        spec: with or without its `python:`.
        kind: what it is to be, for errors: "a reward".

    Raises:
        UsageError: no such module or file, or one that fails when it is imported.
        UnknownNameError: it has no such name; near names are offered.
    """
    module_name, _, name = spec.removeprefix(PYTHON).rpartition(":")
    if not module_name or not name:
        raise UsageError(
            f"{kind} of your own must be python:MODULE:NAME or python:FILE.py:NAME",
            got=PYTHON + spec.removeprefix(PYTHON),
            do="name both",
        )
    module = _import(module_name, kind)
    if not hasattr(module, name):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"{kind} of {module_name}", name, known)
    return getattr(module, name)


def _import(name: str, kind: str) -> ModuleType:
    """An imported module or file; what it raises is told in one line."""
    try:
        if name.endswith(".py"):
            return _run_file(Path(name).resolve())
        if "" not in sys.path:
            sys.path.insert(0, "")  # the working folder, as for `python -m`
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(
            f"{name}, which holds {kind}, must be a Python module or file that can be imported",
            got=f"{type(error).__name__}: {error}",
            do="check the path and run it alone",
        ) from error


def _run_file(path: Path) -> ModuleType:
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(path)
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses and pickle look their classes' module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        raise
    return module


def _module_name(path: Path) -> str:
    """The file's own name, or one with a hash where another module has that name."""
    loaded = sys.modules.get(path.stem)
    same = getattr(loaded, "__file__", None) == str(path)
    if path.stem in sys.stdlib_module_names or (loaded is not None and not same):
        return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    return path.stem


# --- plugins of installed packages ---------------------------------------------------------------


@dataclass(frozen=True)
class Plugin:
    """An object that an installed package offers; nothing of it is imported before `load`.

    Attributes:
        name: what users call it.
        offers: the entry points of that name; more than one where packages disagree.
    """

    name: str
    offers: tuple[metadata.EntryPoint, ...]

    @property
    def distribution(self) -> str:
        """The installed package that offers it, with its version: "my-package 1.2"."""
        return ", ".join(
            f"{offer.dist.name} {offer.dist.version}" if offer.dist else "an unnamed package"
            for offer in self.offers
        )

    @property
    def problem(self) -> str:
        """Why it cannot be loaded; "" if it can. Loads it."""
        try:
            self.load()
        except PluginError as error:
            return error.got
        return ""

    def load(self) -> Any:
        """The object.

        Raises:
            PluginError: the package's code fails, lacks the object, or another package offers the
                same name; the message names the package.
        """
        if len({offer.value for offer in self.offers}) > 1:
            raise PluginError(
                f"the plugin {self.name!r} must be offered by one package",
                got=self.distribution,
                do="uninstall all but one of them",
            )
        try:
            return self.offers[0].load()
        except Exception as error:
            raise PluginError(
                f"the plugin {self.name!r} of {self.distribution} must load",
                got=f"{type(error).__name__}: {error}",
                do="update or uninstall that package",
            ) from error


def entry_points(group: Group) -> Mapping[str, Plugin]:
    """The plugins that installed packages offer under a group, by name; none is loaded.

    >>> dict(entry_points("trimtab.rewards"))
    {}
    """
    check_word("group", group, Group)
    offers: dict[str, list[metadata.EntryPoint]] = {}
    for offer in metadata.entry_points(group=group):
        offers.setdefault(offer.name, []).append(offer)
    return {name: Plugin(name, tuple(found)) for name, found in sorted(offers.items())}


# --- optional packages ---------------------------------------------------------------------------


def optional(module: str, extra: str, *, user: str = "this") -> Any:
    """A module of a package that only an extra of trimtab installs.

    >>> optional("json", "eval").dumps([1])
    '[1]'

    Args:
        module: such as "scipy.stats".
        extra: which extra brings its package: "eval".
        user: what needs it, for the error: "the reward 'chrf'".

    Raises:
        UsageError: the package is not installed; the message names the command.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"{user} needs the package {module.partition('.')[0]}",
            got=f"no module named {missing.name!r}",
            do=f"run: pip install 'trimtab[{extra}]'",
        ) from missing
