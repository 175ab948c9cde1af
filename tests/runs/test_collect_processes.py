"""Several processes, and sudden deaths: nothing lost, nothing done twice, the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.runs import world
from tests.runs.killed import KILLS
from tests.runs.ranks import job
from tests.runs.world import files, roll
from trimtab.errors import DataError, RewardError, UsageError
from trimtab.runs import Processes, Progress, rank_of, relabel
from trimtab.runs.store import Store

# --- one process at a time -----------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 7, 14, 26])
def test_a_job_that_was_stopped_goes_on_with_the_same_bytes(tmp_path: Path, after: int) -> None:
    def stop(progress: Progress) -> None:
        if progress.done >= after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        roll(tmp_path / "stopped", on=stop)
    roll(tmp_path / "stopped")
    roll(tmp_path / "whole")
    assert files(tmp_path / "stopped") == files(tmp_path / "whole")


def test_what_a_dead_process_left_is_cleared_away(tmp_path: Path) -> None:
    roll(tmp_path)
    whole = files(tmp_path)
    gone = world.records(tmp_path)[1]
    gone.unlink()
    gone.with_name(f".{gone.name}.part").write_bytes(b"half")
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / gone.stem).write_text("")
    roll(tmp_path)
    assert files(tmp_path) == whole
    assert not (tmp_path / "locks").exists()


def test_it_says_how_far_it_is(tmp_path: Path) -> None:
    said: list[Progress] = []
    manifest = roll(tmp_path, on=said.append)
    assert [p.done for p in said if p.stage == "decode"] == list(range(1, 28))
    assert [p.stage for p in said].count("start") == 5
    assert {p.total for p in said} == {27}
    assert said[-1].tokens == manifest["counts"]["tokens"]
    world.records(tmp_path)[1].unlink()
    said.clear()
    roll(tmp_path, on=said.append)
    assert (said[-1].done, said[-1].total) == (27, 27)
    assert 0 < said[-1].tokens < manifest["counts"]["tokens"]
    said.clear()
    relabel(tmp_path, [world.weights], on=said.append)
    assert (said[-1].stage, said[-1].done, said[-1].tokens) == ("score", 27, 0)


def test_a_shard_that_another_process_works_on_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one holds the lock for two looks, then dies without having finished."""
    roll(tmp_path / "whole")
    roll(tmp_path / "shared")
    gone = world.records(tmp_path / "shared")[3]
    gone.unlink()
    store, looks = Store(tmp_path / "shared"), list[float]()
    held = store.claim(gone.stem)
    assert held.__enter__()

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            held.__exit__(None, None, None)

    monkeypatch.setattr("trimtab.runs.worker.time.sleep", sleep)
    roll(tmp_path / "shared")
    assert len(looks) == 2
    assert files(tmp_path / "shared") == files(tmp_path / "whole")


# --- several -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_any_number_of_workers_writes_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2, 3):
        job(tmp_path / f"{workers}", workers=workers)
    assert files(tmp_path / "1") == files(tmp_path / "2") == files(tmp_path / "3")


@pytest.mark.slow
def test_workers_relabel_and_say_what_failed(tmp_path: Path) -> None:
    roll(tmp_path / "one", rewards=[world.count_b, world.weights])
    roll(tmp_path / "two")
    relabel(tmp_path / "two", [world.weights], processes=Processes(2))
    assert files(tmp_path / "one") == files(tmp_path / "two")
    with pytest.raises(RewardError, match="two c's"):
        relabel(tmp_path / "two", [world.no_cc], processes=Processes(2))


def test_what_cannot_be_sent_to_a_worker_is_said(tmp_path: Path) -> None:
    lm = world.model()
    with pytest.raises(UsageError, match="must be picklable"):
        roll(tmp_path, processes=Processes(2, lambda: lm))


def other_model() -> object:
    return world.tt.TableLM(size=4, seed=8)


@pytest.mark.slow
def test_workers_must_open_the_same_model(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="must open the model of the job"):
        roll(tmp_path, processes=Processes(2, other_model))


def fatal(samples: object, responses: object) -> list[float]:
    os._exit(9)


@pytest.mark.slow
def test_a_worker_that_dies_is_said_and_what_is_finished_is_kept(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="one that was killed"):
        roll(tmp_path, rewards=[fatal], processes=Processes(2, world.model))
    assert list((tmp_path / "records").glob("*.parquet"))


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_two_processes_of_torchrun_write_the_same_bytes(tmp_path: Path) -> None:
    job(tmp_path / "one")
    launcher = ("torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1")
    with start(
        *launcher, "--master-port", "0", "-m", "tests.runs.ranks", "ranks",
        tmp_path / "two",
    ) as process:  # fmt: skip
        _, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.slow
def test_an_interruption_stops_all_workers_at_once(tmp_path: Path) -> None:
    with start("tests.runs.ranks", "workers", tmp_path) as process:
        while not list((tmp_path / "records").glob("*.parquet")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert len(list((tmp_path / "records").glob("*.parquet"))) < 90


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    with start("tests.runs.ranks", "workers", folder) as process:
        while not list((folder / "records").glob("*.parquet")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    time.sleep(1.0)
    there = len(list((folder / "records").glob("*.parquet")))
    time.sleep(1.0)
    assert there == len(list((folder / "records").glob("*.parquet"))) < 90
    job(folder, count=90)
    job(tmp_path / "whole", count=90)
    assert files(folder) == files(tmp_path / "whole")


@pytest.mark.slow
def test_twenty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    with start("tests.runs.killed", tmp_path) as process:
        out, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    found = json.loads(out.splitlines()[-1])
    assert found["redone"] == found["lost"] == []
    assert found["ended"] == 0
    assert found["progress"] == sorted(found["progress"])
    assert KILLS <= found["there"] < found["batches"]  # the kills fell into the work
    # A kill wastes at most the batch that was being decoded.
    assert found["batches"] <= found["begun"] <= found["batches"] + KILLS
    assert found["same"]
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


# --- which process this is -----------------------------------------------------------------------


def test_a_process_knows_its_rank() -> None:
    assert rank_of({}) == (0, 1)
    assert rank_of({}, workers=4, processes=1) == (0, 1)
    assert rank_of({"WORLD_SIZE": "1", "RANK": "0"}) == (0, 1)
    assert rank_of({"WORLD_SIZE": "3", "RANK": "2"}, processes=3) == (2, 3)


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ({"WORLD_SIZE": "2"}, {}, "each must know its RANK"),
        ({"WORLD_SIZE": "2", "RANK": "2"}, {}, "each must know its RANK"),
        ({"WORLD_SIZE": "many", "RANK": "0"}, {}, "each must know its RANK"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, {"workers": 2}, "by torchrun or by --workers"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, {"processes": 3}, "must be 3 processes; got 2"),
        ({}, {"processes": 2}, "must be 2 processes; got 1 .accelerate launch starts one"),
    ],
)
def test_processes_that_were_not_started_as_meant_are_said(
    environment: dict[str, str], options: dict[str, int], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        rank_of(environment, **options)
