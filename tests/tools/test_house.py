"""What `make house` counts, on small trees that were counted by hand."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tools import house, walks


def write(folder: Path, **files: str) -> Path:
    """A package `pkg` of these modules; `a__b` is `a/b.py`."""
    for name, text in files.items():
        path = folder / "pkg" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "pkg"


def test_lines_are_those_of_files_and_of_functions_without_docstrings(tmp_path: Path) -> None:
    function = '@cache\ndef f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    sizes = house.measure(write(tmp_path, one=function, room__two="x = 1\ny = 2\n"))
    assert sizes.lines == {"one.py": 7, "room/two.py": 2}
    assert sizes.functions == {"one.py:f": 2}
    assert sizes.total == 9
    assert sizes.packages() == {".": (1, 7), "room": (1, 2)}


def test_circles_are_found_at_import_and_inside_functions(tmp_path: Path) -> None:
    package = write(
        tmp_path,
        a="from pkg import b\n",
        b="from pkg.c import x\ndef f():\n    import pkg.a\n",
        c="from typing import TYPE_CHECKING\nx = 1\nif TYPE_CHECKING:\n    from pkg.b import f\n",
    )
    assert house.imports(package, lazy=False) == {
        "pkg.a": {"pkg.b"}, "pkg.b": {"pkg.c"}, "pkg.c": set(),
    }  # fmt: skip
    assert house.circles(house.imports(package, lazy=False)) == []
    (circle,) = house.circles(house.imports(package, lazy=True))
    assert circle[0] == circle[-1]
    assert set(circle) == {"pkg.a", "pkg.b"}


def test_all_circles_are_named() -> None:
    graph = {"a": {"b"}, "b": {"a", "c"}, "c": {"d"}, "d": {"c"}}
    assert sorted(map(sorted, map(set, house.circles(graph)))) == [["a", "b"], ["c", "d"]]


SMALL = {
    "first": """
import trials, decoding.loop
def go():
    trials.passed()
    decoding.loop.steps()
""",
    "trials": """
def passed():
    from cache import trial
    trial.run()
""",
    "cache__trial": "import twin\ndef run():\n    twin.made()\n",
    "twin": "def made():\n    pass\n",
    "decoding__loop": """
import made
def steps():
    made.Made().value
    made.step()
    late()
def late():
    from last import f
    f()
""",
    "made": """
class Step:
    pass
class Made:
    def __init__(self):
        self.x = 1
    @property
    def value(self):
        return self.x
def step():
    return Step()
""",
    "last": """
import bare
def register(f):
    bare.Bare().value
    return f
@register
def f():
    pass
""",
    "bare": """
class Bare:
    def __init__(self):
        pass
    @property
    def value(self):
        return 1
""",
}


def test_a_walk_counts_the_files_of_functions_up_to_each_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = write(tmp_path, **SMALL)
    monkeypatch.setattr(walks, "SOURCE", package)
    monkeypatch.syspath_prepend(package)
    with walks.Watch() as watch:
        importlib.import_module("first").go()
    assert sys.getprofile() is None
    before = ["first.py", "trials.py", "cache/trial.py"]  # and not what the trial calls
    assert watch.marks["loop"] == before
    assert watch.marks["token"] == [*before, "decoding/loop.py", "made.py"]
    assert list(watch.files) == [*before, "decoding/loop.py", "made.py", "last.py"]


def test_the_report_says_what_was_counted(capsys: pytest.CaptureFixture[str]) -> None:
    house.main(["--no-walks"])
    report = capsys.readouterr().out
    assert report.startswith("       files  lines\nsrc ")
    assert "\ntests : src = " in report
    assert "circles of imports: 0; " in report
    files = {"goal": ["a.py"], "token": ["a.py", "b.py"], "whole": ["a.py", "b.py", "c.py"]}
    report = house.walks_report(dict.fromkeys(house.AIMS, files), listed=True)
    assert ["collect", "1", "18", "2", "3"] in map(str.split, report.splitlines())
    assert "train:\n  a.py" in report


@pytest.mark.slow
def test_every_walk_comes_to_its_goal(tmp_path: Path) -> None:
    found = walks.walk_all(tmp_path)
    assert set(found) == set(house.AIMS)
    for name, files in found.items():
        assert files["whole"][: len(files["goal"])] == files["goal"]
        assert any(f.startswith(("decoding/", "training/")) for f in files["goal"]), name
