"""Rewards of rollouts: those that fail, those that die, those that come later."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trimtab as tt
from tests import toys
from tests.runs import world
from tests.runs.world import files, roll
from trimtab.errors import DataError, RewardError, UnavailableError, UsageError
from trimtab.runs import Processes, read_groups, read_manifest, relabel
from trimtab.runs.resolve import GuideSource, Scorer
from trimtab.types import Sample

# --- rewards that fail ---------------------------------------------------------------------------


def test_a_response_that_cannot_be_scored_is_named_and_finished_work_stays(tmp_path: Path) -> None:
    with pytest.raises(RewardError, match=r"'no_cc' .*two c's \(prompt 'b\w+', text '\w*cc\w*'\)"):
        roll(tmp_path, rewards=[world.no_cc])
    written = list((tmp_path / "records").iterdir())
    assert written
    with pytest.raises(DataError, match="run the same command again"):
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
    assert len(list((tmp_path / "records").iterdir())) == 3
    assert len(list((tmp_path / "scores" / scorer(0).key).iterdir())) == 2
    manifest = roll(tmp_path, rewards=[scorer(3)], on_reward_error=error)
    assert manifest["rewards"]["dying"]["n"] == 27


# --- rewards that come later ---------------------------------------------------------------------


def test_a_reward_that_is_added_is_as_if_it_had_been_there(tmp_path: Path) -> None:
    before = roll(tmp_path / "later")
    texts = {k: v for k, v in files(tmp_path / "later").items() if k.startswith("records")}
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "later" / "records").iterdir()}
    after = relabel(tmp_path / "later", [world.weights])
    roll(tmp_path / "at once", rewards=[world.count_b, world.weights])
    assert files(tmp_path / "later") == files(tmp_path / "at once")
    assert texts.items() <= files(tmp_path / "later").items()
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "later" / "records").iterdir()}
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
    assert [p.name for p in (tmp_path / "scores").iterdir()] == ["mine-98765432"]
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
    gone = world.records(tmp_path)[1]
    gone.unlink()
    with pytest.raises(DataError, match=rf"no records/{gone.name}"):
        relabel(tmp_path, [world.weights])


# --- rewards of one name -------------------------------------------------------------------------


def at_most(limit: int) -> Any:
    def score(samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        return [float(len(text) <= limit) for text in responses]

    return score


@pytest.mark.parametrize("finished", [True, False])
def test_another_closure_of_one_name_labels_anew(tmp_path: Path, finished: bool) -> None:
    folder, fresh = tmp_path / "one", tmp_path / "fresh"
    roll(folder, rewards=[at_most(1)])
    if not finished:
        manifest = folder / "manifest.json"
        manifest.write_text(json.dumps(read_manifest(folder) | {"complete": False}))
    texts = {p: p.stat().st_mtime_ns for p in (folder / "records").iterdir()}
    roll(folder, rewards=[at_most(3)])
    roll(fresh, rewards=[at_most(3)])
    assert files(folder) == files(fresh)
    assert texts == {p: p.stat().st_mtime_ns for p in (folder / "records").iterdir()}


def test_a_reward_that_changed_leaves_the_others(tmp_path: Path) -> None:
    roll(tmp_path, rewards=[at_most(1), world.count_b])
    before = read_manifest(tmp_path)["rewards"]
    after = roll(tmp_path, rewards=[at_most(3)])["rewards"]
    assert after["count_b"] == before["count_b"]
    assert after["score"]["fingerprint"] != before["score"]["fingerprint"]
    assert len(list((tmp_path / "scores").iterdir())) == 2


class Tide:
    """A reward that reads what it is not made of."""

    fingerprint = "tide"
    level = 1.0

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        return [Tide.level for _ in responses]


@pytest.mark.parametrize("way", ["collect", "relabel"])
def test_rescoring_asks_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    def again(**options: Any) -> float:
        if way == "relabel":
            return float(relabel(tmp_path, [Tide()], **options)["rewards"]["tide"]["mean"])
        return float(roll(tmp_path, rewards=[Tide()], **options)["rewards"]["tide"]["mean"])

    roll(tmp_path, rewards=[Tide()])
    monkeypatch.setattr(Tide, "level", 2.0)
    assert again() == 1.0
    assert again(rescore=True) == 2.0
    assert again() == 2.0


class Piped:
    """A reward that holds what cannot be looked into, and may die."""

    def __init__(self, level: float, calls: int = 99) -> None:
        self.level, self.calls, self.pipe = level, calls, (letter for letter in "ab")

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        self.calls -= 1
        if self.calls < 0:
            raise UnavailableError("the server must answer", got="nothing", do="start it")
        return [self.level for _ in responses]


def test_a_reward_that_cannot_be_known_is_asked_anew_and_costs_no_text(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnavailableError):
        roll(tmp_path, rewards=[Piped(1.0, calls=2)])
    texts = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    caplog.clear()
    assert roll(tmp_path, rewards=[Piped(2.0)])["rewards"]["piped"]["mean"] == 2.0
    (said,) = (record.getMessage() for record in caplog.records)
    assert "piped cannot be told from others of its name, so it is asked anew each time" in said
    assert ".pipe is a generator, which cannot be looked into" in said
    assert roll(tmp_path, rewards=[Piped(3.0)])["rewards"]["piped"]["mean"] == 3.0
    assert len(list((tmp_path / "scores").iterdir())) == 1
    now = {p: p.stat().st_mtime_ns for p in (tmp_path / "records").iterdir()}
    assert texts == {path: now[path] for path in texts}


def test_processes_of_a_launcher_must_agree_on_their_rewards(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"must agree .*piped: \.pipe is a generator"):
        roll(tmp_path, rewards=[Piped(1.0)], processes=Processes(rank=1))


def test_texts_of_another_rule_are_not_gone_on_with(tmp_path: Path) -> None:
    guide = GuideSource.ready(toys.TableGuide())

    def tilted(power: float) -> Any:
        return replace(tt.cd(k=2), rule=lambda p, s, beta: p + power * beta * s)

    roll(tmp_path, method=tilted(1.0), guide=guide)
    roll(tmp_path, method=tilted(1.0), guide=guide)
    with pytest.raises(DataError, match=r"about\.method\.rule\.fingerprint"):
        roll(tmp_path, method=tilted(2.0), guide=guide)
