"""The map in docs/architecture.md is the house: it names every room, and none that is not there."""

from __future__ import annotations

import re
import tomllib

from tests.docs.blocks import ROOT, blocks_of

SOURCE = ROOT / "src" / "trimtab"

TOOLS = re.compile(r"The files beside them \((?P<names>.*?)\) are tools")

tree, drawing = (block.text for block in blocks_of(ROOT / "docs" / "architecture.md", "text"))


def rooms() -> set[str]:
    """Packages and modules directly below the source, but for the way into the command line."""
    names = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    return names | {path.stem for path in SOURCE.glob("*.py")} - {"__main__"}


def named() -> set[str]:
    """What the tree and the line below it name."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tools = TOOLS.search(page)
    assert tools
    in_tree = {line.split()[0].rstrip("/") for line in tree.splitlines()[1:]}
    return in_tree | set(re.findall(r"`(\w+)`", tools["names"]))


def test_the_map_names_every_room_and_none_that_is_not_there() -> None:
    assert named() == rooms()


def test_packages_are_drawn_as_packages_with_a_line_each() -> None:
    for line in tree.splitlines()[1:]:
        name, about = line.split(maxsplit=1)
        assert len(about) > 20, name
        assert (SOURCE / name.rstrip("/")).is_dir() == (name.endswith("/")), name


def test_the_drawing_is_what_the_import_linter_holds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    held = [set(re.findall(r"\w+", layer)) & rooms() for layer in layers]
    drawn = [set(re.findall(r"\w+", line)) for line in drawing.splitlines()]
    assert [names for names in drawn if names] == [names for names in held if names]
