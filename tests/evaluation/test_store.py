"""The folder: whole files only, shared by processes, refused where it does not belong."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import trimtab as tt
from tests.evaluation import worlds
from trimtab.errors import ResultsError
from trimtab.evaluation.bench import items_of, scorers_of
from trimtab.evaluation.cells import Cell, Unit
from trimtab.evaluation.evaluate import evaluate
from trimtab.evaluation.records import dump, load
from trimtab.evaluation.store import Store, read_manifest
from trimtab.evaluation.work import Decoder
from trimtab.runs.identity import ModelId, identify

TASK = worlds.Letters()


def a_cell(method: tt.Method | None = None, **changes: object) -> Cell:
    lm = worlds.model()
    items = items_of(lm, TASK, "test")
    plain = Cell("letters", "test", identify(lm), tt.sampling(), None, 2, 0, 6, items, rows=8)
    return replace(plain, method=method or plain.method, **changes)


def a_unit() -> Unit:
    return a_cell().units[0]


def open_store(folder: Path, **changes: object) -> Store:
    return Store(folder, replace(identify(worlds.model()), **changes), "letters")


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "locks"
    }


# --- what is written -----------------------------------------------------------------------------


def test_completions_come_back_as_they_were() -> None:
    unit = a_unit()
    done = Decoder(worlds.model())(unit)
    back = load(json.loads(dump(unit, done)))
    assert back.items == unit.items
    for was, now in zip(done, back.completions, strict=True):
        assert (was.text, was.tokens, was.finish, was.sample) == (
            now.text,
            now.tokens,
            now.finish,
            now.sample,
        )
        assert was.kl == pytest.approx(now.kl, abs=1e-8)
        assert was.logprob == pytest.approx(now.logprob, rel=1e-8)
        assert (was.base_tokens, was.guide_tokens) == (now.base_tokens, now.guide_tokens)


def test_a_unit_is_named_by_everything_that_its_texts_depend_on() -> None:
    base = a_cell()
    others = [
        a_cell(seed=1),
        a_cell(n=3, rows=12),
        a_cell(max_new_tokens=5),
        a_cell(tt.sampling(temperature=0.5)),
        a_cell(model=replace(base.model, weights="other")),
        a_cell(model=replace(base.model, base_temperature=0.7)),
    ]
    keys = {cell.units[0].key for cell in [base, *others]}
    assert len(keys) == 1 + len(others)
    assert a_cell().units[0].key == base.units[0].key
    assert a_cell(model=replace(base.model, name="elsewhere")).units[0].key == base.units[0].key


def test_more_prompts_keep_the_units_of_the_fewer() -> None:
    whole = a_cell()
    fewer = a_cell(items=whole.items[:8])
    assert {u.key for u in fewer.units} <= {u.key for u in whole.units}
    assert fewer.key != whole.key


def test_methods_of_other_strength_have_other_names() -> None:
    methods = [tt.vas(1.0), tt.vas(2.0), tt.vas(1.0, tail="drop"), tt.args(1.0), tt.cd(1.0)]
    cells = [a_cell(method) for method in methods]
    assert len({cell.key for cell in cells}) == len({cell.label for cell in cells}) == 5


# --- whose folder it is --------------------------------------------------------------------------


def test_a_folder_of_another_model_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    open_store(tmp_path)
    with pytest.raises(ResultsError, match=r"model\.weights .*'other'"):
        open_store(tmp_path, weights="other")
    with pytest.raises(ResultsError, match=r"model\.base_temperature 1\.0 \(now 0\.7\)"):
        open_store(tmp_path, base_temperature=0.7)
    with pytest.raises(ResultsError, match=r"task 'letters' \(now 'words'\)"):
        Store(tmp_path, identify(worlds.model()), "words")
    open_store(tmp_path, name="the same weights elsewhere")


def test_a_folder_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(tmp_path)
    monkeypatch.setattr(tt, "__version__", "9.9")
    with pytest.raises(ResultsError, match=r"trimtab '.*' \(now '9\.9'\)"):
        open_store(tmp_path)


def test_a_folder_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="must hold a manifest.json"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ResultsError, match="must hold a manifest.json"):
        open_store(tmp_path)


def test_a_file_in_place_of_the_folder_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultsError, match="name another folder"):
        open_store(tmp_path / "results")


def test_a_damaged_unit_is_named(tmp_path: Path) -> None:
    evaluate(worlds.model(), TASK, [tt.greedy()], tmp_path)
    (path,) = (tmp_path / "units").iterdir()
    path.write_text(path.read_text()[:100])
    with pytest.raises(ResultsError, match="delete that file"):
        evaluate(worlds.model(), TASK, [tt.greedy()], tmp_path)


# --- several processes ---------------------------------------------------------------------------

HOLD = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1]); lock.acquire(); print("held", flush=True); time.sleep(60)
"""


def test_a_claim_is_refused_while_another_process_lives_and_free_when_it_is_killed(
    tmp_path: Path,
) -> None:
    store = open_store(tmp_path)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "locks" / "x")], stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with store.claim("x") as mine:
            assert not mine
        with store.claim("y") as mine:
            assert mine
        other.kill()
    with store.claim("x") as mine:
        assert mine


# --- no room -------------------------------------------------------------------------------------


def test_a_full_disk_keeps_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = 7  # files that still fit

    def fsync(handle: int) -> None:
        nonlocal room
        room -= stat.S_ISREG(os.fstat(handle).st_mode)  # folders take no room
        if room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(ResultsError, match=r"No space left.*make room and run it again"):
        evaluate(worlds.model(), TASK, [tt.sampling()], tmp_path, n=2, rows=4)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part"))
    kept = files(tmp_path / "units")
    assert kept
    result = evaluate(worlds.model(), TASK, [tt.sampling()], tmp_path, n=2, rows=4)
    assert result.reused == len(kept)
    assert kept.items() <= files(tmp_path / "units").items()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    at = tmp_path / "disk"
    at.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40k", "tmpfs", str(at)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can only be mounted by root")
    yield at
    subprocess.run(["umount", str(at)], check=True)


def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    folder = small_disk / "results"
    with pytest.raises(ResultsError, match="make room"):
        evaluate(worlds.model(), TASK, [tt.sampling()], folder, n=8, rows=8)
    assert not list(folder.rglob("*.part"))
    for path in (folder / "units").iterdir():
        json.loads(path.read_text())
    (small_disk / "results").rename(small_disk / "moved")
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    kept = len(list((small_disk / "moved" / "units").iterdir()))
    result = evaluate(worlds.model(), TASK, [tt.sampling()], small_disk / "moved", n=8, rows=8)
    assert kept > 0
    assert result.reused == kept


def test_scorers_have_folders_of_their_own() -> None:
    found = scorers_of(TASK)
    assert found["reward"].key != found["judge"].key
    assert found["reward"].name == "count_b"
    assert ModelId("a", "w") == ModelId("a", "w")
