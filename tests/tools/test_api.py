"""`make api`, on a small repository with a release and changes after it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import api

ONE = "def f(x: int, y: int = 0) -> int:\n    return x\n\ndef inner(x: int) -> int:\n    return x\n"
DOOR = 'from pkg.one import f\n\n__all__ = ["f"]\n'


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Package `pkg` with a door that gives `f`; released as v0.1.0."""
    source = tmp_path / "src" / "pkg"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text(DOOR)
    (source / "one.py").write_text(ONE)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_without_a_release_there_is_nothing_to_compare_with(repository: Path) -> None:
    assert api.last_release(repository) is None


def test_what_stands_behind_a_door_may_move_and_change(repository: Path) -> None:
    git(repository, "tag", "v0.1.0")
    source = repository / "src" / "pkg"
    (source / "one.py").unlink()
    (source / "two.py").write_text("def f(x: int, y: int = 0) -> int:\n    return x + y\n")
    (source / "__init__.py").write_text(DOOR.replace("pkg.one", "pkg.two"))
    assert api.last_release(repository) == "v0.1.0"
    assert api.breaks(repository, "pkg", "v0.1.0") == []


@pytest.mark.parametrize(
    ("door", "one", "broken"),
    [
        (DOOR, ONE.replace("y: int = 0", "y: int"), "f(y): Parameter is now required"),
        (DOOR, ONE.replace("x: int, y", "z: int, y"), "f(x): Parameter was removed"),
        ('__all__ = ["g"]\ng = 1\n', ONE, "f: Public object was removed"),
        ("f = 1\n", ONE, "pkg: the door is gone"),
    ],
)
def test_a_break_at_a_door_is_named(repository: Path, door: str, one: str, broken: str) -> None:
    git(repository, "tag", "v0.1.0")
    (repository / "src" / "pkg" / "__init__.py").write_text(door)
    (repository / "src" / "pkg" / "one.py").write_text(one)
    assert broken in "\n".join(api.breaks(repository, "pkg", "v0.1.0"))
