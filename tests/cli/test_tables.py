"""`trimtab methods` and `trimtab assets`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import trimtab as tt
from tests.shell import Run
from tools.methods import PAPERS
from trimtab.assets import ASSETS, cache_dir


def test_every_method_is_shown_with_its_defaults(trimtab: Run) -> None:
    result = trimtab("methods", "--json")
    found = {row["name"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert found.keys() == tt.METHODS.keys()
    assert found["vas"]["defaults"] == {"beta": 1.0, "k": 20, "tail": "mean", "temperature": 1.0}
    assert found.keys() >= PAPERS.keys()
    assert not found["sampling"]["guided"]
    shown = trimtab("methods").stdout
    assert all(name in shown for name in tt.METHODS)


def test_assets_are_listed_and_found(
    trimtab: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    shown = trimtab("assets", "list").stdout
    assert all(asset.name in shown for asset in ASSETS)
    assert str(cache_dir()) in shown
    assert "did you mean smollm2" in trimtab("assets", "path", "smolm2").stderr


def test_terms_must_be_accepted(
    trimtab: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    monkeypatch.setattr("trimtab.assets.download.members", _no_network)
    result = trimtab("assets", "fetch", "gemma3-270m")
    assert result.exit_code == 1
    assert "--accept-terms" in result.stderr
    assert not list(tmp_path.glob("gemma*"))


def _no_network(*_: object) -> None:
    raise OSError("no network")
