"""Counts the house: its lines and files, its longest parts, its circles, its walks.

    python -m tools.house           what `make house` prints
    python -m tools.house --files   with the files of each walk

Lines are all lines of `*.py`, as `wc -l` counts them. A function's length is that of its text
without decorators and docstring. Imports are read by `ast`: those under `TYPE_CHECKING` do not
count, those inside functions count as well but are told apart, as they bite later. How walks are
measured stands in `tools.walks`.
"""

from __future__ import annotations

import argparse
import ast
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tools.walks import ROOT, walk_all

AIMS = {"prompt -> token": 12, "collect": 18, "evaluate": 18, "train": 25, "generate": 20}
"""How many files a walk should pass at most, up to its goal."""

LONGEST = 8

HOW = """\
Goals: of a prompt the first token, of train the first step of the optimizer, of the other commands
to enter the decode loop. Counted by tracing one tiny real run each: files of which a function was
entered; imports, constructors, properties and the trial of a network's cache do not count."""

Graph = dict[str, set[str]]


# --- sizes ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sizes:
    """Lines of the files below a folder.

    Attributes:
        lines: by path, relative to the folder.
        functions: lines of each function and method, by `path:name`.
    """

    lines: Mapping[str, int]
    functions: Mapping[str, int]

    @property
    def total(self) -> int:
        """Lines of all files."""
        return sum(self.lines.values())

    def packages(self) -> dict[str, tuple[int, int]]:
        """Files and lines of each folder directly below, and of the files beside them."""
        files, lines = Counter[str](), Counter[str]()
        for path, count in self.lines.items():
            package = path.split("/")[0] if "/" in path else "."
            files[package] += 1
            lines[package] += count
        return {name: (files[name], lines[name]) for name in sorted(lines, key=lambda n: -lines[n])}


def measure(folder: Path) -> Sizes:
    """Counts the `*.py` files below a folder."""
    lines, functions = {}, {}
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        text = path.read_text(encoding="utf-8")
        lines[name] = text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions[f"{name}:{node.name}"] = _height(node) - _docstring_height(node)
    return Sizes(lines, functions)


def _height(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _docstring_height(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return 0 if ast.get_docstring(node) is None else _height(node.body[0])


# --- imports -------------------------------------------------------------------------------------


def imports(package: Path, *, lazy: bool) -> Graph:
    """Which modules of a package import which at runtime.

    Args:
        package: the package's folder.
        lazy: whether imports inside functions count.
    """
    modules = {_module(path, package): path for path in package.rglob("*.py")}
    return {
        name: {
            target
            for node in _import_nodes(ast.parse(path.read_bytes()), lazy)
            for target in _targets(node, modules)
            if target != name
        }
        for name, path in modules.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """Circles that must be cut, one by one, until none is left; each ends where it begins."""
    graph, found = {name: set(targets) for name, targets in graph.items()}, []
    while True:
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle = error.args[1][::-1]  # graphlib names the imported module first
            found.append(circle)
            graph[circle[0]].discard(circle[1])
        else:
            return found


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _import_nodes(tree: ast.AST, lazy: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _import_nodes(other, lazy)
        elif lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _import_nodes(node, lazy)


def _targets(node: ast.Import | ast.ImportFrom, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules that an import reaches: of `from a import b` it is `a.b` where that is a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in modules)
    else:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            target = inner if inner in modules else node.module or ""
            if target in modules:
                yield target


# --- what is printed -----------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns side by side; the first to the left, the others to the right."""
    text = [list(map(str, row)) for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    lines = (
        "  ".join(
            c.rjust(w) if i else c.ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        for row in text
    )
    return "\n".join(line.rstrip() for line in lines)


def longest(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """The largest counts, largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:LONGEST]


def static_report(root: Path) -> str:
    """All that can be said without running anything."""
    source, tests = measure(root / "src"), measure(root / "tests")
    package = measure(root / "src" / "trimtab")
    rows = [
        (name, len(sizes.lines), sizes.total) for name, sizes in (("src", source), ("tests", tests))
    ]
    at_import, later = (
        circles(imports(root / "src" / "trimtab", lazy=lazy)) for lazy in (False, True)
    )
    parts = [
        table(("", "files", "lines"), rows),
        f"tests : src = {tests.total / source.total:.2f}",
        table(("package", "files", "lines"), [(n, *c) for n, c in package.packages().items()]),
        table(("longest files", "lines"), longest(package.lines)),
        table(("longest functions", "lines"), longest(package.functions)),
        f"circles of imports: {len(at_import)}; with imports inside functions: {len(later)}",
        *(f"  {' -> '.join(circle)}" for circle in later),
    ]
    return "\n\n".join(parts)


def walks_report(walks: Mapping[str, Mapping[str, Sequence[str]]], listed: bool = False) -> str:
    """How many files each walk passes, and on wish which."""
    rows = [
        (name, len(files["goal"]), aim, len(files["token"]) or "", len(files["whole"]))
        for name, aim in AIMS.items()
        for files in [walks[name]]
    ]
    head = ("files that a walk enters", "to its goal", "aim", "first token", "whole run")
    parts = [table(head, rows), HOW]
    if listed:
        parts += [f"{name}:\n  " + "\n  ".join(walks[name]["goal"]) for name in AIMS]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(prog="python -m tools.house", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--files", action="store_true", help="also list the files of each walk")
    parser.add_argument("--no-walks", action="store_true", help="only what needs no run")
    given = parser.parse_args(arguments)
    print(static_report(ROOT))
    if not given.no_walks:
        with tempfile.TemporaryDirectory() as folder:
            print("\n" + walks_report(walk_all(Path(folder)), given.files))


if __name__ == "__main__":
    main()
