"""No room, no right: one line, and what is finished is kept."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runs.world import files, roll
from trimtab.errors import ResultsError
from trimtab.runs import read_groups


@pytest.mark.parametrize("room", [0, 1, 4, 10])
def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    left = room  # files that still fit

    def fsync(handle: int) -> None:
        nonlocal left
        left -= stat.S_ISREG(os.fstat(handle).st_mode)  # folders take no room
        if left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ResultsError, match=r"No space left.*make room and run it again"):
        roll(tmp_path / "full")
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))
    kept = {k: v for k, v in files(tmp_path / "full").items() if k.endswith("parquet")}
    assert len(kept) == max(0, room - 2)  # the manifest and the condition were the first
    roll(tmp_path / "full")
    roll(tmp_path / "whole")
    assert files(tmp_path / "full") == files(tmp_path / "whole")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "disk"
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield at
    subprocess.run(["umount", str(at)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="make room"):
        roll(small_disk / "full", n=60, rows=60)
    kept = len(read_groups(small_disk / "full", partial=True))
    assert 0 < kept < 9
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    roll(small_disk / "full", n=60, rows=60)
    roll(tmp_path / "whole", n=60, rows=60)
    assert files(small_disk / "full") == files(tmp_path / "whole")


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="folder of yours.*name another folder"):
        roll(tmp_path / "file")
    with pytest.raises(ResultsError, match="folder of yours"):
        roll(Path("/proc/nowhere"))
