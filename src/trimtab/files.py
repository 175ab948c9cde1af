"""Writing files and folders whole: what is under the final name is complete, or not there.

All that the library leaves on a disk goes through here: made beside its final name, synced, then
renamed, with the permissions that the process's umask gives to any new file. What cannot be written
is an `OSError`, but of `write_atomic`.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from trimtab.errors import OutputError


def write_atomic(path: str | Path, data: str | bytes) -> Path:
    """Write a file for the user, and the folders that it lies in.

    Raises:
        OutputError: it cannot be written (no permission, a full disk, a folder of that name).
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, data)
    except OSError as error:
        raise OutputError(
            f"{path} must be writable", got=error.strerror or str(error), do="choose another place"
        ) from error
    return path


def replace_file(path: Path, data: str | bytes, *, locked: bool = False) -> None:
    """Write a file into a folder that is there; text is written as UTF-8. See `replacing`."""
    with replacing(path, locked=locked) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """A hidden file beside `path` to be written, which takes that name when the block ends.

    After a failure nothing is left behind, and what was under the name is there as it was. Under a
    lock nobody else writes this file now: its hidden name is then always the same, and what a
    killed process left is written over.
    """
    part = path.with_name(f".{path.name}{'' if locked else f'.{secrets.token_hex(4)}'}.part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    _sync(path.parent)


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """A hidden folder to be filled, which takes its final name when the block ends.

    What was there under that name stays until then; after a failure it is there as it was.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
        yield part
        apply_umask(part)
        for path in (*part.rglob("*"), part):
            _sync(path)
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(part, target)
        except BaseException:
            if old.exists():
                os.replace(old, target)
            raise
    finally:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
    _sync(target.parent)


def apply_umask(folder: Path) -> None:
    """Give every file of a folder the permissions of a new one: safetensors writes 0600.

    They are read off a new file: asking for the umask itself would change it for all threads.
    """
    probe = folder / f".{secrets.token_hex(4)}.mode"
    try:
        probe.touch(exist_ok=False)
        usual = stat.S_IMODE(probe.stat().st_mode)
    finally:
        probe.unlink(missing_ok=True)
    for path in folder.rglob("*"):
        if path.is_file() and stat.S_IMODE(path.stat().st_mode) != usual:
            path.chmod(usual)


def _sync(path: Path) -> None:
    """To the disk; where folders cannot be synced, their entries are the system's to keep."""
    if path.is_symlink():
        return
    with suppress(OSError) if path.is_dir() else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
