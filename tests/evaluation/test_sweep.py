"""Sweeps: the grid, the choice under caps, fresh prompts for the chosen, and ten sudden deaths."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests.evaluation import worlds
from tests.evaluation.killed import KILLS
from tests.evaluation.test_experiment import GUIDE, TASK
from tests.runs.test_store import a_condition, files
from trimtab.errors import UnknownNameError
from trimtab.evaluation.sweep import Sweep, choose, frontier, sweep
from trimtab.evaluation.table import Row
from trimtab.runs.resolve import find_methods

# --- the grid ------------------------------------------------------------------------------------


def test_the_grid_crosses_the_parameters_that_a_method_takes() -> None:
    axes = {"beta": [1.0, 2.0], "k": [5, 10], "n": [4, 8]}
    found = find_methods(["greedy", "vas", "best-of-n", "genarm"], axes)
    assert [m.name for m in found] == ["greedy"] + ["vas"] * 4 + ["best-of-n"] * 2 + ["genarm"] * 2
    assert {(m.beta, m.proposal.k) for m in found if m.name == "vas"} == {
        (1.0, 5),
        (1.0, 10),
        (2.0, 5),
        (2.0, 10),
    }


def test_an_unknown_method_offers_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean .*pargs"):
        find_methods(["parg"], {})


# --- the choice ----------------------------------------------------------------------------------


def rows(*figures: tuple[float, float | None, float]) -> list[Row]:
    return [
        {"method": f"m{i}", "guide": "g", "reward": reward, "kl": kl, "length": length}
        for i, (reward, kl, length) in enumerate(figures)
    ]


def conditions(*methods: tt.Method) -> list[Any]:
    return [a_condition(method, guide=GUIDE if method.guided else None) for method in methods]


def test_the_best_reward_within_the_caps_is_chosen() -> None:
    grid_of = conditions(tt.vas(1.0), tt.vas(2.0), tt.vas(4.0), tt.vas(8.0))
    found = rows((1.0, 1.0, 10), (2.0, 2.0, 30), (3.0, 4.0, 10), (2.5, 8.0, 10))

    def best(**caps: float | None) -> int | None:
        ((_, at),) = choose(grid_of, found, {"kl": None, "length": None} | caps)
        return at

    assert best() == 2
    assert best(kl=3.0) == 1
    assert best(kl=3.0, length=20.0) == 0
    assert best(kl=0.5) is None
    ((choice, _),) = choose(grid_of, found, {"kl": 0.5})
    assert (choice.label, choice.why) == (None, "none of 4 kept kl <= 0.5")


def test_an_unknown_kl_keeps_no_cap_and_an_unguided_method_needs_none() -> None:
    found = choose(
        conditions(tt.cd_blockwise(), tt.greedy()), rows((9, None, 1), (1, 5, 1)), {"kl": 1}
    )
    assert [at for _, at in found] == [None, 1]


def test_of_equal_rewards_the_lower_kl_is_chosen() -> None:
    ((_, at),) = choose(conditions(tt.vas(1.0), tt.vas(2.0)), rows((1, 2, 1), (1, 1, 1)), {})
    assert at == 1


def test_the_frontier_is_what_no_other_beats_in_both() -> None:
    found = rows((1, 1, 1), (3, 2, 1), (2, 3, 1), (4, 5, 1), (9, None, 1))
    assert frontier(found) == ["m0 by g", "m1 by g", "m3 by g"]


# --- a whole one ---------------------------------------------------------------------------------


def run(folder: Path, **options: Any) -> Sweep:
    methods = find_methods(["greedy", "sampling", "args", "vas"], {"beta": [1.0, 3.0], "k": [2]})
    return sweep(worlds.model(), TASK, methods, folder, guides=[GUIDE], n=2, **options)


def test_strengths_are_chosen_on_one_split_and_scored_on_another(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert found.test is not None
    assert len(found.grid.table.rows) == 6
    assert [r["method"] for r in found.test.table.rows] == [c.label for c in found.choices]
    assert {r["split"] for r in found.grid.table.rows} == {"validation"}
    assert {r["split"] for r in found.test.table.rows} == {"test"}
    said = json.loads((tmp_path / "tables" / "sweep.json").read_text())
    assert [c["label"] for c in said["choices"]] == [c.label for c in found.choices]
    assert said["frontier"] == list(found.frontier)
    again = run(tmp_path)
    assert (again.computed, again.reused) == (0, found.computed)


def test_a_cap_that_nothing_keeps_is_said(tmp_path: Path) -> None:
    found = run(tmp_path, max_kl=1e-12)
    assert {c.method: c.label for c in found.choices} == {
        "greedy": "greedy",
        "sampling": "sampling",
        "args": None,
        "vas": None,
    }
    assert found.test is not None
    assert len(found.test.table.rows) == 2


@pytest.mark.slow
def test_ten_kills_cost_nothing_that_was_finished(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.evaluation.killed", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["redone"] == found["lost"] == []
    assert found["ended"] == 0
    assert found["progress"] == sorted(found["progress"])
    assert 0 < found["reused"] < found["batches"]  # the kills fell into the work
    assert found["last"] == found["batches"] - found["reused"]
    assert found["again"] == 0
    # A kill wastes at most the batch that was being decoded.
    assert found["batches"] <= found["started"] <= found["batches"] + KILLS
    for part in ("tables", "records", "scores", "conditions"):
        assert files(tmp_path / "whole" / part) == files(tmp_path / "killed" / part)
    assert not [p for p in (tmp_path / "killed").rglob("*.part") if p.parent.name == "records"]
