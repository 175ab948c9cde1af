"""The folder: whole files only, shared by processes, refused where it does not belong."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests.evaluation import worlds
from trimtab.errors import DataError, ResultsError
from trimtab.evaluation.experiment import evaluate, items_of, scorers_of
from trimtab.runs import read_manifest
from trimtab.runs.batches import Condition, Item, Policy
from trimtab.runs.identity import ModelId, identify
from trimtab.runs.store import Store
from trimtab.runs.worker import Work, Worker
from trimtab.types import Response

TASK = worlds.Letters()


def a_condition(
    method: tt.Method | None = None,
    items: tuple[Item, ...] | None = None,
    rows: int = 8,
    **changes: Any,
) -> Condition:
    lm = worlds.model()
    items = items or items_of(lm, TASK, "test")
    plain = Policy(identify(lm), tt.sampling(), None, 2, 0, 6)
    policy = replace(plain, **{"method": method or plain.method, **changes})
    return Condition("letters", "test", policy, items, rows)


def open_store(folder: Path, task: str = "letters", **changes: Any) -> Store:
    model = replace(identify(worlds.model()), **changes)
    store = Store(folder)
    named = {"name": model.name, **model.identity()}
    store.open({"kind": "evaluation", "task": task, "model": named}, {}, kept=False)
    return store


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.parent.name != "locks"
    }


# --- what is written -----------------------------------------------------------------------------


def test_completions_come_back_as_they_were(tmp_path: Path) -> None:
    batch = a_condition().batches[0]
    lm, store = worlds.model(), Store(tmp_path)
    Worker(Work(tmp_path, (batch,), alternatives=2), lambda: lm).run()
    prompts = [item.prompt for item in batch.items]
    done = tt.decode(lm, None, tt.sampling(), prompts, n=2, max_new_tokens=6, alternatives=2)
    rows = store.read(batch.key)
    assert [(row.id, row.group.prompt) for row in rows] == [(i.id, i.prompt) for i in batch.items]
    back = [
        response.completion(row.group.prompt, sample)
        for row in rows
        for sample, response in enumerate(row.group.responses)
    ]
    for was, now in zip(done, back, strict=True):
        assert (was.text, was.tokens, was.finish, was.sample) == (
            now.text,
            now.tokens,
            now.finish,
            now.sample,
        )
        assert was.kl == pytest.approx(now.kl, abs=1e-6)
        assert was.logprob == pytest.approx(now.logprob, rel=1e-6)
        assert (was.base_tokens, was.guide_tokens) == (now.base_tokens, now.guide_tokens)
        for one, other in zip(was.steps, now.steps, strict=True):
            assert (one.tokens, one.text, one.failed) == (other.tokens, other.text, other.failed)
            assert [a.token for a in one.alternatives] == [a.token for a in other.alternatives]
            assert [lm.decode((a.token,)) for a in one.alternatives] == [
                a.text for a in other.alternatives
            ]


def test_a_response_and_a_completion_are_each_other_without_loss() -> None:
    prompts = [item.prompt for item in a_condition().items]
    for done in tt.decode(worlds.model(), None, tt.sampling(), prompts, alternatives=3):
        response = Response.of(done)
        back = response.completion(done.prompt, done.sample)
        assert replace(back, steps=()) == replace(done, steps=())
        assert back.steps == tuple(replace(step, row=0) for step in done.steps)
        assert response.kl == done.kl
        assert sum(response.logprobs) == done.logprob
    with pytest.raises(DataError, match="must have its ledger"):
        Response((1,), "given").completion(prompts[0])


def test_a_batch_is_named_by_everything_that_its_texts_depend_on() -> None:
    base = a_condition()
    model = base.policy.model
    others = [
        a_condition(seed=1),
        a_condition(n=3, rows=12),
        a_condition(max_new_tokens=5),
        a_condition(tt.sampling(temperature=0.5)),
        a_condition(model=replace(model, weights="other")),
        a_condition(model=replace(model, base_temperature=0.7)),
    ]
    keys = {condition.batches[0].key for condition in [base, *others]}
    assert len(keys) == 1 + len(others)
    assert a_condition().batches[0].key == base.batches[0].key
    elsewhere = a_condition(model=replace(model, name="elsewhere"))
    assert elsewhere.batches[0].key == base.batches[0].key


def test_more_prompts_keep_the_batches_of_the_fewer() -> None:
    whole = a_condition()
    fewer = a_condition(items=whole.items[:8])
    assert {b.key for b in fewer.batches} <= {b.key for b in whole.batches}
    assert fewer.key != whole.key


def test_methods_of_other_strength_have_other_names() -> None:
    methods = [tt.vas(1.0), tt.vas(2.0), tt.vas(1.0, tail="drop"), tt.args(1.0), tt.cd(1.0)]
    conditions = [a_condition(method) for method in methods]
    assert len({condition.key for condition in conditions}) == 5
    assert len({condition.facts.label for condition in conditions}) == 5


# --- whose folder it is --------------------------------------------------------------------------


def test_a_folder_of_another_model_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    open_store(tmp_path)
    with pytest.raises(ResultsError, match=r"model\.weights .*'other'"):
        open_store(tmp_path, weights="other")
    with pytest.raises(ResultsError, match=r"model\.base_temperature 1\.0 \(now 0\.7\)"):
        open_store(tmp_path, base_temperature=0.7)
    with pytest.raises(ResultsError, match=r"task 'letters' \(now 'words'\)"):
        open_store(tmp_path, task="words")
    open_store(tmp_path, name="the same weights elsewhere")


def test_a_folder_of_another_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(tmp_path)
    monkeypatch.setattr("trimtab.version.__version__", "9.9")
    with pytest.raises(ResultsError, match=r"trimtab '.*' \(now '9\.9'\)"):
        open_store(tmp_path)


def test_a_folder_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="must hold its manifest.json"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ResultsError, match="must hold its manifest.json"):
        open_store(tmp_path)


def test_a_file_in_place_of_the_folder_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(ResultsError, match="name another folder"):
        open_store(tmp_path / "results")


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    evaluate(worlds.model(), TASK, [tt.greedy()], tmp_path)
    (path,) = (tmp_path / "records").iterdir()
    path.write_bytes(path.read_bytes()[:100])
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
    kept = files(tmp_path / "records")
    assert kept
    result = evaluate(worlds.model(), TASK, [tt.sampling()], tmp_path, n=2, rows=4)
    assert result.reused == len(kept)
    assert kept.items() <= files(tmp_path / "records").items()


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
    for path in (folder / "records").iterdir():
        assert Store(folder).read(path.stem)
    (small_disk / "results").rename(small_disk / "moved")
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    kept = len(list((small_disk / "moved" / "records").iterdir()))
    result = evaluate(worlds.model(), TASK, [tt.sampling()], small_disk / "moved", n=8, rows=8)
    assert kept > 0
    assert result.reused == kept


def test_scorers_have_folders_of_their_own() -> None:
    found = scorers_of(TASK)
    assert found["reward"].key != found["judge"].key
    assert found["reward"].name == "count_b"
    assert ModelId("a", "w") == ModelId("a", "w")
