"""Code from outside the library: a user's own, installed plugins, optional packages.

    python:path/to/file.py:NAME      a file of the user's
    python:package.module:NAME       a module that can be imported
    NAME                             what an installed package offers under one of `Group`

A package offers a plugin in its pyproject.toml; the object stands for its name everywhere, on the
command line too:

    [project.entry-points."trimtab.rewards"]
    politeness = "my_package.rewards:politeness"

All of this runs code: load only what you trust. Where code comes from is told by `package_of` (the
name and version of what is installed) and `source` (the texts of other files).
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from trimtab.errors import PluginError, UnknownNameError, UsageError, check_word
from trimtab.version import __version__

PYTHON = "python:"
"""What the name of a user's own object begins with."""

Group: TypeAlias = Literal["trimtab.methods", "trimtab.guides", "trimtab.rewards", "trimtab.tasks"]
"""The entry points that are read."""


# --- the user's own code -------------------------------------------------------------------------


def load_object(spec: str, kind: str) -> Any:
    """The object that `python:FILE.py:NAME` or `python:MODULE:NAME` means.

    The folder of the file, or the working folder for a module, can be imported from, as when Python
    runs the file. A file is run each time that it is loaded, so worker processes load it again by
    the same text. Errors call it a `kind`, such as "a reward".
    """
    module_name, _, name = spec.removeprefix(PYTHON).rpartition(":")
    if not module_name or not name:
        raise UsageError(
            f"{kind} of your own must be python:MODULE:NAME or python:FILE.py:NAME",
            got=PYTHON + spec.removeprefix(PYTHON),
            do="name both",
        )
    try:
        module = _import(module_name)
    except Exception as error:
        raise UsageError(
            f"{module_name}, which holds {kind}, must be a Python module or file that can be "
            "imported",
            got=f"{type(error).__name__}: {error}",
            do="check the path and run it alone",
        ) from error
    if not hasattr(module, name):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(f"{kind} of {module_name}", name, known)
    return getattr(module, name)


def _import(name: str) -> ModuleType:
    """A module, or a file that is run under its own name."""
    path = Path(name).resolve()
    folder = str(path.parent) if name.endswith(".py") else ""  # the working folder, as for `-m`
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if not folder:
        return importlib.import_module(name)
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
        del sys.modules[name]
        if before is not None:
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


# --- plugins and optional packages ---------------------------------------------------------------


@dataclass(frozen=True)
class Plugin:
    """An object that an installed package offers; nothing of it is imported before `load`."""

    name: str
    offers: tuple[metadata.EntryPoint, ...]  # more than one where packages disagree

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
        """The object; an error names the package that fails, or those that offer one name."""
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


def optional(module: str, extra: str, *, user: str = "this") -> Any:
    """A module of a package that only an extra of trimtab installs; its `user` is told of it.

    >>> optional("json", "eval").dumps([1])
    '[1]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        raise UsageError(
            f"{user} needs the package {module.partition('.')[0]}",
            got=f"no module named {missing.name!r}",
            do=f"run: pip install 'trimtab[{extra}]'",
        ) from missing


# --- where code comes from -----------------------------------------------------------------------

_OWN = Path(__file__).resolve().parent
_HOMES = (_OWN, *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib")))


@cache
def installed(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to trimtab."""
    path = Path(file).resolve()
    packages = {"site-packages", "dist-packages"} & set(path.parts)
    return file.startswith("<frozen") or bool(packages) or any(map(path.is_relative_to, _HOMES))


def package_of(module: str) -> list[str] | None:
    """Name and version of the installed package of a module; None where its text must be read.

    trimtab's own modules bear the hash of their file beside the version, and the versions of what
    they import.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return ["python"]
    file = getattr(sys.modules.get(module), "__file__", None)
    if top == "trimtab" and file is not None:
        return ["trimtab", __version__, *_own_source(file)]
    if top == "__main__" or file is None or not installed(file):
        return None
    return [top, version(top)]


@cache
def version(name: str) -> str:
    """The version of the distribution that brings a top-level module; "" where none says so."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        found = _distributions().get(name, [])
        return " ".join(f"{d} {metadata.version(d)}" for d in sorted(set(found)))


_distributions = cache(metadata.packages_distributions)


def source(file: str) -> list[str]:
    """Hashes of a file and of the files that it imports, directly or not, as they are met.

    Then come the installed packages that these import, with their versions. Empty where there is
    no such file: what was typed at a prompt has none.
    """
    root = Path(file).resolve()
    if not root.is_file():
        return []
    importlib.invalidate_caches()
    todo, met, packages, hashes = deque([root]), {root}, set[str](), list[str]()
    while todo:
        path = todo.popleft()
        content = path.read_bytes()
        hashes.append(hashlib.sha256(content).hexdigest())
        for level, name in _imports(content) if path.suffix == ".py" else ():
            found = _find(path, level, name)
            if found is None or installed(str(found)):
                packages |= {name.partition(".")[0]} if not level else set()
            elif found not in met:
                met.add(found)
                todo.append(found)
    packages -= {*sys.stdlib_module_names, "trimtab"}
    versions = {name: version(name) for name in sorted(packages)}
    return hashes + [f"{name} {number}" for name, number in versions.items() if number]


_own_source = cache(source)


@lru_cache(maxsize=1024)
def _imports(content: bytes) -> tuple[tuple[int, str], ...]:
    """Every import of a file, inside functions too: how many folders up it begins, and its name.

    The name may be that of a module or of an attribute; packages run their own files first.
    """
    found: dict[tuple[int, str], None] = {}
    with suppress(SyntaxError, ValueError):  # its text still tells it from others
        for node in ast.walk(ast.parse(content)):
            for level, name in _imported(node):
                parts = name.split(".")
                found |= dict.fromkeys((level, ".".join(parts[:i])) for i in range(1, len(parts)))
                found[level, name] = None
    return tuple(found)


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    if isinstance(node, ast.Import):
        yield from ((0, alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            yield node.level, f"{node.module}.{alias.name}" if node.module else alias.name
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = getattr(node.func, "id", getattr(node.func, "attr", None))
        if called in ("optional", "import_module"):  # they import what their first argument names
            yield 0, str(node.args[0].value)


def _find(importer: Path, level: int, name: str) -> Path | None:
    """The file of a module, as Python would find it; None where there is none."""
    module = None if level else sys.modules.get(name)
    loaded = getattr(module, "__file__", None)
    if loaded is None:
        *folders, last = name.split(".")
        roots = sys.path if not level else ()
        homes = (importer.parents[max(level - 1, 0)], *roots)
        spec = PathFinder.find_spec(last, [str(Path(home, *folders)) for home in homes])
        loaded = spec.origin if spec is not None and spec.has_location else None
    return Path(loaded).resolve() if loaded is not None else None
