"""A file or folder is whole under its final name, or not there; its permissions are the umask's."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import trimtab as tt
from tests import shell, toys
from tests.evaluation import worlds
from tests.runs import world
from tests.training import train_world
from trimtab.errors import OutputError
from trimtab.evaluation.experiment import evaluate
from trimtab.files import replace_file, replace_folder, write_atomic
from trimtab.training.run import train


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=lambda mask: f"umask {mask:03o}")
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_text_and_bytes_are_written_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    assert write_atomic(path, "grün") == path
    assert path.read_bytes() == "grün".encode()
    write_atomic(path, b"\x00")
    assert path.read_bytes() == b"\x00"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomic(tmp_path / "a.txt", "old")

    def fail(*_: object) -> None:
        raise OSError(28, "no room")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OutputError, match="no room"):
        write_atomic(path, "new")
    with pytest.raises(OSError, match="no room"):
        replace_file(path, "new", locked=True)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_atomic(tmp_path / "a.txt", "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_under_a_lock_what_a_killed_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".a.txt.part").write_text("half of what was to be written, and then")
    replace_file(tmp_path / "a.txt", "all", locked=True)
    assert (tmp_path / "a.txt").read_text() == "all"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_all_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is synced, then renamed, then the folder that names it is synced."""
    said: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(handle: int) -> None:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        said.append("folder" if folder else "file")
        fsync(handle)

    def renamed(source: Path, target: Path) -> None:
        said.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", renamed)
    write_atomic(tmp_path / "a.txt", "text")
    assert said == ["file", "rename", "folder"]
    said.clear()
    with replace_folder(tmp_path / "b") as part:
        (part / "inner").mkdir()
        (part / "inner" / "c").write_text("text")
    assert said == ["folder", "file", "folder", "rename", "folder"]


def test_a_folder_takes_the_place_of_another_or_leaves_it(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with replace_folder(tmp_path / "a") as part:
            (part / "b").write_text(text)

    def half() -> None:
        with replace_folder(tmp_path / "a") as part:
            (part / "b").write_text("half")
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        half()
    assert (tmp_path / "a" / "b").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_permissions_are_those_of_any_new_file(tmp_path: Path, umask: int) -> None:
    """Temporary files of Python and safetensors are for their owner only."""
    write_atomic(tmp_path / "a", "text")
    write_atomic(tmp_path / "a", "another")
    replace_file(tmp_path / "b", b"bytes", locked=True)
    with replace_folder(tmp_path / "c") as part:
        save_file({"x": torch.zeros(1)}, part / "x.safetensors")
    tt.save_guide(toys.value_guide(), tmp_path / "guide")
    assert modes(tmp_path) == {0o666 & ~umask}
    assert not list(tmp_path.rglob(".*"))


def modes(folder: Path) -> set[int]:
    return {stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}


# --- the net: whatever writes --------------------------------------------------------------------


def rolled(folder: Path) -> None:
    world.roll(folder)


def evaluated(folder: Path) -> None:
    evaluate(worlds.model(), worlds.Letters(), [tt.sampling()], folder, n=2, rows=4)


def trained(folder: Path) -> None:
    """With the checkpoints that are there only while it runs."""
    train_world.make(folder)
    seen: set[int] = set()

    def on(*_: object) -> None:
        for checkpoint in folder.glob("guide.runs/*/checkpoint-*"):
            if (checkpoint / "trainer_state.json").is_file():
                seen.update(modes(checkpoint))

    for rank in (0, 4):
        train(train_world.config(folder, lora_rank=rank, tensorboard=True), overwrite=True, on=on)
        shutil.rmtree(folder / "guide.runs")
    assert seen == {0o664}
    shutil.rmtree(folder / "base")  # transformers' own: made by the test


def inspected(folder: Path) -> None:
    tt.save_guide(toys.value_guide(), folder / "guide")
    toys.causal_lm().save_pretrained(folder / "base")
    toys.tokenizer().save_pretrained(folder / "base")
    asked = ["inspect", str(folder / "guide"), "--model", str(folder / "base")]
    done = shell.trimtab(*asked, "-o", str(folder / "out"))
    assert done.exit_code == 0, done.stderr
    assert (folder / "out" / "inspect.md").is_file()
    shutil.rmtree(folder / "base")


@pytest.mark.filterwarnings("ignore::trimtab.errors.TrimtabWarning")
@pytest.mark.parametrize("umask", [0o002], indirect=True)
@pytest.mark.parametrize("work", [rolled, evaluated, trained, inspected])
def test_whatever_a_command_writes_has_the_umasks_permissions(
    tmp_path: Path, umask: int, work: Callable[[Path], None]
) -> None:
    """A colleague of the group may go on where one stopped."""
    work(tmp_path)
    bad = {p: oct(p.stat().st_mode) for p in tmp_path.rglob("*") if p.is_file()}
    assert {p for p, mode in bad.items() if not mode.endswith("664")} == set()
    folders = [p for p in tmp_path.rglob("*") if p.is_dir()]
    assert {stat.S_IMODE(p.stat().st_mode) for p in folders} <= {0o775}
