"""Writing files and folders whole: what is under the final name is complete, or not there.

All that the library leaves on a disk goes through here: made beside its final name, synced, then
renamed, with the permissions that the process's umask gives to any new file.
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
    """Write a file under its final name, whole or not at all.

    Args:
        path: in a folder that is there.
        data: text is written as UTF-8.
        locked: as for `replacing`.

    Raises:
        OSError: it cannot be written.
    """
    with replacing(path, locked=locked) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def replacing(path: Path, *, locked: bool = False) -> Iterator[Path]:
    """A hidden file beside `path` to be written, which takes that name when the block ends.

    After a failure nothing is left behind, and what was under the name is there as it was.

    Args:
        path: in a folder that is there.
        locked: the caller holds a lock, so that nobody else writes this file now. Its hidden name
            is then always the same, and what a killed process left is written over.

    Raises:
        OSError: it cannot be written.
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

    Raises:
        OSError: it cannot be written.
    """
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    old = part.with_suffix(".old")
    try:
        part.mkdir(parents=True)
        yield part
        settle(part)
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


def settle(folder: Path) -> None:
    """Give every file of a folder the umask's permissions, and sync all to the disk.

    Raises:
        OSError: a file that is not one's own, a full disk.
    """
    apply_umask(folder)
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def apply_umask(folder: Path) -> None:
    """Give every file of a folder the permissions of a new one: safetensors writes 0600.

    They are read off a new file: asking for the umask itself would change it for all threads.

    Raises:
        OSError: a file that is not one's own, a full disk.
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
    folder = path.is_dir()
    with suppress(OSError) if folder else nullcontext():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
