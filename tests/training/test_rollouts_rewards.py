"""Rewards of rollouts: those that fail, those that die, those that come later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.training import rollouts_world as world
from tests.training.rollouts_world import files, roll
from trimtab.errors import DataError, RewardError, UnavailableError, UsageError
from trimtab.evaluation.sources import Scorer
from trimtab.training.rollouts import relabel
from trimtab.training.store import read_groups, read_manifest
from trimtab.types import Sample

# --- rewards that fail ---------------------------------------------------------------------------


def test_a_response_that_cannot_be_scored_is_named_and_finished_work_stays(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"'no_cc' .*two c's \(prompt 'b\w+', text '\w*cc\w*'\)"):
        roll(tmp_path, rewards=[world.no_cc])
    written = list((tmp_path / "groups").iterdir())
    assert written
    with pytest.raises(DataError, match="run trimtab collect again"):
        read_groups(tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in written}
    manifest = roll(tmp_path, rewards=[world.no_cc], on_reward_error="skip")
    assert stamps == {p: p.stat().st_mtime_ns for p in written}
    roll(tmp_path / "skipped", rewards=[world.no_cc], on_reward_error="skip")
    whole = {k: v for k, v in files(tmp_path).items() if not k.startswith("skipped")}
    assert whole == files(tmp_path / "skipped")
    assert manifest["rewards"]["no_cc"]["failed"] > 0


def test_skipped_responses_are_counted_and_left_out_of_the_figures(tmp_path: Path) -> None:
    facts = roll(tmp_path, rewards=[world.no_cc], on_reward_error="skip")["rewards"]["no_cc"]
    responses = [r for g in read_groups(tmp_path) for r in g.responses]
    scores = [r.rewards["no_cc"] for r in responses if "no_cc" in r.rewards]
    assert facts["failed"] == sum("cc" in r.text for r in responses) > 0
    assert facts["n"] == len(scores) == len(responses) - facts["failed"]
    assert facts["mean"] == pytest.approx(sum(scores) / len(scores))


class Mended:
    """Fails on two c's until it is mended; notes what it is asked."""

    def __init__(self) -> None:
        self.broken, self.asked = True, list[str]()

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        if self.broken:
            return world.no_cc(samples, responses)
        self.asked += responses
        return world.count_b(samples, responses)


def test_a_reward_that_was_mended_is_asked_for_what_it_failed_on_alone(tmp_path: Path) -> None:
    function = Mended()
    scorer = Scorer("mended", function, "0123456789")
    roll(tmp_path, rewards=[scorer], on_reward_error="skip")
    with pytest.raises(RewardError, match="two c's"):
        roll(tmp_path, rewards=[scorer])
    function.broken = False
    roll(tmp_path, rewards=[scorer], on_reward_error="skip")  # what was left out stays so
    assert function.asked == []
    manifest = roll(tmp_path, rewards=[scorer])
    assert function.asked
    assert all("cc" in text for text in function.asked)
    assert manifest["rewards"]["mended"]["failed"] == 0
    roll(tmp_path / "at once", rewards=[scorer])
    at_once = files(tmp_path / "at once")
    assert {k: v for k, v in files(tmp_path).items() if not k.startswith("at once")} == at_once


@pytest.mark.parametrize("error", ["raise", "skip"])
def test_a_reward_that_dies_keeps_the_shards_that_are_finished(tmp_path: Path, error: str) -> None:
    def scorer(calls: int) -> Scorer:
        return Scorer("dying", world.Dying(calls), "0123456789")

    with pytest.raises(UnavailableError, match="start it"):
        roll(tmp_path, rewards=[scorer(2)], on_reward_error=error)
    assert len(list((tmp_path / "groups").iterdir())) == 3
    assert len(list((tmp_path / "rewards" / scorer(0).key).iterdir())) == 2
    manifest = roll(tmp_path, rewards=[scorer(3)], on_reward_error=error)
    assert manifest["rewards"]["dying"]["n"] == 27


# --- rewards that come later ---------------------------------------------------------------------


def test_a_reward_that_is_added_is_as_if_it_had_been_there(tmp_path: Path) -> None:
    before = roll(tmp_path / "later")
    texts = {k: v for k, v in files(tmp_path / "later").items() if k.startswith("groups")}
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "later" / "groups").iterdir()}
    after = relabel(tmp_path / "later", [world.weights])
    roll(tmp_path / "at once", rewards=[world.count_b, world.weights])
    assert files(tmp_path / "later") == files(tmp_path / "at once")
    assert texts.items() <= files(tmp_path / "later").items()
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "later" / "groups").iterdir()}
    assert after["rewards"]["count_b"] == before["rewards"]["count_b"]
    for group in read_groups(tmp_path / "later"):
        assert all(set(r.rewards) == {"count_b", "weights"} for r in group.responses)


def test_adding_a_reward_that_is_there_does_nothing(tmp_path: Path) -> None:
    roll(tmp_path)
    before = files(tmp_path)
    relabel(tmp_path, [world.count_b])
    assert files(tmp_path) == before


def test_an_interrupted_relabelling_goes_on(tmp_path: Path) -> None:
    roll(tmp_path)
    with pytest.raises(UnavailableError):
        relabel(tmp_path, [Scorer("dying", world.Dying(2), "0123456789")])
    assert set(read_groups(tmp_path)[0].responses[0].rewards) == {"count_b"}
    relabel(tmp_path, [Scorer("dying", world.Dying(3), "0123456789")])
    assert set(read_groups(tmp_path)[0].responses[0].rewards) == {"count_b", "dying"}


def test_another_reward_of_that_name_takes_its_place(tmp_path: Path) -> None:
    roll(tmp_path, rewards=[Scorer("mine", world.count_b, "0123456789")])
    manifest = relabel(tmp_path, [Scorer("mine", world.weights, "9876543210")])
    assert manifest["rewards"]["mine"]["fingerprint"] == "9876543210"
    assert [p.name for p in (tmp_path / "rewards").iterdir()] == ["mine-98765432"]
    group = read_groups(tmp_path)[3]
    assert group.responses[0].rewards == {"mine": 3 * len(group.responses[0].text) / 3}


def test_relabelling_wants_a_finished_folder_and_a_reward(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must hold its manifest"):
        relabel(tmp_path, [world.count_b])
    roll(tmp_path)
    with pytest.raises(UsageError, match="a reward must be named"):
        relabel(tmp_path, [])
    path = tmp_path / "manifest.json"
    path.write_text(json.dumps(read_manifest(tmp_path) | {"complete": False}))
    with pytest.raises(DataError, match="a job that did not end"):
        relabel(tmp_path, [world.weights])
    (tmp_path / "groups" / "00001.parquet").unlink()
    with pytest.raises(DataError, match=r"no groups/00001\.parquet"):
        relabel(tmp_path, [world.weights])
