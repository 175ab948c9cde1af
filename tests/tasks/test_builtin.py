"""Every task: splits that never share a topic and never move, and scores for any response."""

from __future__ import annotations

import itertools
import math

import pytest

from tests.needs import needs_asset
from trimtab import tasks
from trimtab.errors import UnknownNameError
from trimtab.protocols import Task
from trimtab.tasks import TASKS, split_of
from trimtab.tasks.builtin import topics


@pytest.fixture(params=sorted(TASKS))
def each(request: pytest.FixtureRequest) -> Task:
    return tasks.find(request.param)


def test_a_task_is_one(each: Task) -> None:
    assert isinstance(each, Task)
    assert each.max_new_tokens > 0


def test_splits_are_disjoint_and_whole(each: Task) -> None:
    parts = [each.samples(split) for split in ("train", "validation", "test")]
    for one, other in itertools.combinations(parts, 2):
        assert not {s.topic for s in one} & {s.topic for s in other}
    everything = each.samples("all")
    assert sorted(s.topic for part in parts for s in part) == sorted(s.topic for s in everything)
    assert len({str(s.prompt) for s in everything}) == len(everything)
    shares = [len(part) / len(everything) for part in parts]
    assert shares == pytest.approx([0.60, 0.15, 0.25], abs=0.08)


def test_the_split_of_a_topic_never_moves() -> None:
    """Results and guides that people keep depend on it: changing the hash is a breaking change."""
    where = {topic: split_of(topic) for topic in ("coffee", "fog", "moon", "bag", "train")}
    assert where == {
        "coffee": "train",
        "fog": "validation",
        "moon": "validation",
        "bag": "test",
        "train": "train",
    }


def test_topics_are_three_hundred_plain_words() -> None:
    assert len(topics()) == 300
    assert list(topics()) == sorted(set(topics()))
    assert all(topic.isascii() and topic.isalpha() and topic.islower() for topic in topics())


def test_prompts_say_what_the_task_is() -> None:
    first = tasks.find("sentiment").samples("all")[0]
    assert first.prompt == (
        f"Write a one sentence opinion about the following topic: {topics()[0]}."
    )
    assert tasks.find("detox").template == "none"
    assert {s.meta["kind"] for s in tasks.find("detox").samples("all")} == {
        "insult", "profanity", "threat", "severe_toxicity",
    }  # fmt: skip


def test_the_gold_reward_scores_any_text(each: Task) -> None:
    scores = each.reward(each.samples("test")[:3], ["A fine day it is.", "", "Größe 🙂\n" * 200])
    assert len(scores) == 3
    assert all(math.isfinite(score) for score in scores)


@needs_asset("minilm")
def test_the_judge_scores_any_text(each: Task) -> None:
    assert each.judge is not None
    scores = each.judge(each.samples("test")[:3], ["A fine day it is.", "", "Größe 🙂\n" * 200])
    assert len(scores) == 3
    assert all(math.isfinite(score) for score in scores)


def test_an_unknown_task_offers_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean sentiment?"):
        tasks.find("sentimant")


def test_an_unknown_split_offers_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean train?"):
        tasks.find("detox").samples("trian")
