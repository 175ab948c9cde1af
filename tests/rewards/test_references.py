"""Rewards that compare with references, by hand; what else is compared has none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import trimtab as tt
from tests.needs import needs_asset
from tests.toys import samples
from trimtab import rewards
from trimtab.errors import RewardError
from trimtab.rewards import on_texts
from trimtab.rewards.similarity import Chrf, Rouge
from trimtab.types import Sample

NAMES = ("rouge", "chrf", "exact", "similarity-to-reference")


def test_rouge_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    """The cat sat / the cat lay down: two words in common of three and four."""
    asked = samples("x", reference="the cat lay down")
    assert rewards.find("rouge")(asked, ["The cat sat."]) == [pytest.approx(2 * 2 / (3 + 4))]
    assert Rouge("rouge2")(asked, ["The cat sat."]) == [pytest.approx(2 * 1 / (2 + 3))]
    assert Rouge(stem=True)(samples("x", reference="cats"), ["cat"]) == [1.0]
    assert rewards.find("rouge")(asked, [""]) == [0.0]


def test_chrf_is_the_mean_over_ngrams_with_recall_counted_twice() -> None:
    """abc / abd: 2 of 3 letters, 1 of 2 pairs, 0 of 1 triples, alike in precision and recall."""
    asked = samples("x", "x", reference="abd")
    mean = (2 / 3 + 1 / 2 + 0) / 3
    assert rewards.find("chrf")(asked, ["abc", "abd"]) == [pytest.approx(100 * mean), 100.0]
    assert Chrf(word_order=2)(asked[:1], ["abc"])[0] < 100 * mean


def test_exact_passes_over_case_and_blanks() -> None:
    asked = samples("x", "x", "x", reference="Forty  two")
    assert rewards.find("exact")(asked, [" forty two\n", "forty-two", "Forty"]) == [1.0, 0.0, 0.0]


@needs_asset("minilm")
def test_similarity_to_a_reference_reads_the_reference_and_not_the_prompt() -> None:
    asked = samples("cars", "cars", reference=["Mist hides the road.", "Bread is baked."])
    near, far = rewards.find("similarity-to-reference")(
        asked, ["Fog on the street.", "I sold my car."]
    )
    assert near > far
    assert rewards.find("similarity-to-reference")(asked[:1], ["Bread is baked."]) == [
        pytest.approx(1.0, abs=1e-5)
    ]


@pytest.mark.parametrize("name", NAMES[:3])
def test_of_several_references_the_nearest_counts(name: str) -> None:
    many = samples("x", reference=["one two three", "four five six"])
    assert rewards.find(name)(many, ["four five six"]) == rewards.find(name)(
        samples("x", reference="four five six"), ["four five six"]
    )
    assert rewards.find(name)([], []) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("reference", [None, [], [3], 7])
def test_without_a_reference_the_prompt_is_named(name: str, reference: object) -> None:
    sample = Sample("What is 6 times 7?", "sums", {"reference": reference})
    with pytest.raises(RewardError, match=r'needs meta\["reference"\].*What is 6 times 7'):
        rewards.find(name)([sample], ["42"])


@pytest.mark.parametrize("name", NAMES[:3])
def test_on_prefixes_there_is_no_reference(name: str) -> None:
    lm = tt.TableLM(5)
    guide = tt.TextGuide(on_texts(rewards.find(name)), lm.decode)
    with pytest.raises(RewardError, match="take a reward that needs none"):
        tt.decode(lm, guide, tt.args(beta=1.0, k=2), ["a"], max_new_tokens=2)


def test_of_a_conversation_rewards_read_what_the_user_said_last() -> None:
    turns = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"})
    assert Sample(turns, "t").text == "Hi"
    assert Sample((*turns, {"role": "user", "content": "Bye"}), "t").text == "Bye"
    assert Sample(turns[1:], "t").text == "Yes?"
    assert Sample("plain", "t").text == "plain"


def test_a_guide_reads_a_reward_on_prefixes() -> None:
    lm = tt.TableLM(5, seed=1)
    scores: Callable[..., object] = on_texts(rewards.find("words"))
    guide = tt.TextGuide(scores, lm.decode)
    (done,) = tt.decode(lm, guide, tt.args(beta=1.0, k=2), ["a"], max_new_tokens=2)
    assert torch.tensor([step.score for step in done.steps]).isfinite().all()
