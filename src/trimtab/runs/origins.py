"""Where code comes from: installed packages by name and version, all other files by their text.

A file stands for itself and for every file that it imports, directly or not, as far as they are
no installed packages; of those the version stands for the text.
"""

from __future__ import annotations

import ast
import hashlib
import sys
import sysconfig
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TypeAlias

from trimtab.version import __version__

OWN = Path(__file__).resolve().parents[1]

_BY_NAME = frozenset({"optional", "import_module"})
"""Functions that import what their first argument names."""

Import: TypeAlias = tuple[int, str]
"""A module as a file names it: how many folders up it begins, and the rest of its name."""


@cache
def _homes() -> tuple[str, ...]:
    """Folders of the interpreter's own library and of installed packages."""
    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    found = {str(Path(sysconfig.get_path(key)).resolve()) for key in keys}
    return (*sorted(found), str(OWN))


@cache
def installed(file: str) -> bool:
    """Whether a file belongs to Python, to an installed package or to trimtab."""
    if file.startswith("<frozen"):
        return True
    path = Path(file).resolve()
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    return any(path.is_relative_to(home) for home in _homes())


def package_of(module: str) -> list[str] | None:
    """Name and version of the installed package of a module; None where its text must be read.

    trimtab's own modules bear the hash of their file beside the version, and the versions of what
    they import.
    """
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names and top != "__main__":
        return ["python"]
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if top == "trimtab" and file is not None:
        return ["trimtab", __version__, *_own(file)]
    if top == "__main__" or loaded is None or file is None or not installed(file):
        return None
    return [top, version(top)]


@cache
def _own(file: str) -> list[str]:
    return texts(file)


@cache
def version(name: str) -> str:
    """The version of the distribution that brings a top-level module; "" where none says so."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        found = _distributions().get(name, [])
        return " ".join(f"{d} {metadata.version(d)}" for d in sorted(set(found)))


@cache
def _distributions() -> dict[str, list[str]]:
    return {name: list(found) for name, found in metadata.packages_distributions().items()}


# --- files ---------------------------------------------------------------------------------------


def texts(file: str) -> list[str]:
    """Hashes of a file and of the files that it imports, in the order in which they are met.

    Then come the installed packages that these import, with their versions. Empty where there is
    no such file: what was typed at a prompt has none.
    """
    root = Path(file).resolve()
    if not root.is_file():
        return []
    if root not in _CLOSURES or any(
        _stamp(path) != was for path, was in _CLOSURES[root][0].items()
    ):
        met, packages = _closure(root)
        hashes = [_read(str(path), *stamp)[0] for path, stamp in met.items()]
        said = [f"{name} {found}" for name in sorted(packages) if (found := version(name))]
        _CLOSURES[root] = met, hashes + said
    return _CLOSURES[root][1]


Stamp: TypeAlias = tuple[int, int]
"""When a file was written, and its size: another stamp, perhaps another text."""

_CLOSURES: dict[Path, tuple[dict[Path, Stamp], list[str]]] = {}
"""What was found, with the files that it rests on."""


def _stamp(path: Path) -> Stamp:
    if not path.is_file():
        return (0, 0)
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _closure(root: Path) -> tuple[dict[Path, Stamp], set[str]]:
    """A file and those that it imports, and the installed packages that they import."""
    todo, met, packages = deque([root]), {root: _stamp(root)}, set[str]()
    while todo:
        path = todo.popleft()
        for level, name in _read(str(path), *met[path])[1]:
            found = _find(path, level, name)
            if found is None:
                if not level and _find(path, 0, name.partition(".")[0]) is None:
                    packages.add(name.partition(".")[0])
            elif found not in met and not installed(str(found)):
                met[found] = _stamp(found)
                todo.append(found)
    return met, packages - {*sys.stdlib_module_names, "trimtab"}


@cache
def _read(file: str, _mtime: int, _size: int) -> tuple[str, tuple[Import, ...]]:
    """The hash of a file, and what it imports."""
    content = Path(file).read_bytes()
    found: dict[Import, None] = {}
    if file.endswith(".py"):
        with suppress(SyntaxError, ValueError):  # its text still tells it from others
            found = dict.fromkeys(_imports(ast.parse(content)))
    return hashlib.sha256(content).hexdigest(), tuple(found)


def _imports(tree: ast.Module) -> Iterator[Import]:
    """Every import of a file, inside functions too; a name may be a module or an attribute."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _parents(0, alias.name)
        elif isinstance(node, ast.ImportFrom):
            yield from _parents(node.level, node.module or "")
            for alias in node.names:
                yield node.level, ".".join(filter(None, (node.module, alias.name)))
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "id", getattr(node.func, "attr", None))
            first = node.args[0]
            named = first.value if isinstance(first, ast.Constant) else None
            if called in _BY_NAME and isinstance(named, str):
                yield 0, named


def _parents(level: int, name: str) -> Iterator[Import]:
    """Packages run their own files before their modules do."""
    parts = name.split(".") if name else []
    for i in range(len(parts)):
        yield level, ".".join(parts[: i + 1])


def _find(importer: Path, level: int, name: str) -> Path | None:
    """The file of a module that is no installed package, as the importer would find it."""
    if level:
        roots = [importer.parents[level - 1]]
    elif not all(part.isidentifier() for part in name.split(".")):
        return None
    else:
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and Path(loaded).is_file():
            path = Path(loaded).resolve()
            return None if installed(str(path)) else path
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        roots = [importer.parent, *(Path(p or ".") for p in sys.path if not installed(p or "."))]
    for root in roots:
        at = root.joinpath(*name.split("."))
        for path in (at.with_name(f"{at.name}.py"), at / "__init__.py"):
            if path.is_file():
                return path.resolve()
    return None
