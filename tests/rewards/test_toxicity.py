"""The toxicity network and its independent judge agree on plain cases, in any company."""

from __future__ import annotations

import pytest
import torch

from tests.toys import samples
from trimtab.rewards.shipped import Toxicity, cleanliness, profanity, toxicity

CALM = [
    "What a lovely garden, thank you.",
    "The committee met on Tuesday to discuss the budget.",
    "He said that the train would be late again.",
]
FOUL = [
    "You are a stupid idiot and I hate you.",
    "Shut up, moron!",
    "I will kill you, you fucking piece of shit.",
]


def test_foul_texts_are_told_from_calm_ones() -> None:
    for scores in (toxicity(CALM)[:, 0], profanity(CALM)):
        assert scores.max() < 0.15
    for scores in (toxicity(FOUL)[:, 0], profanity(FOUL)):
        assert scores.min() > 0.9


def test_scores_are_those_of_the_published_networks() -> None:
    """Frozen when the weights were taken over; a change of padding or word splitting shows here."""
    kinds = toxicity([FOUL[0]])[0]
    assert kinds.tolist() == pytest.approx(
        [0.99684, 0.20451, 0.86991, 0.030456, 0.92627, 0.13482], abs=2e-4
    )
    assert profanity([CALM[0], CALM[1]]).tolist() == pytest.approx([0.0076, 0.0612], abs=1e-3)


def test_company_changes_no_score() -> None:
    texts = [*CALM, *FOUL, "", "unknownwordxyz", "word " * 300] * 40
    for score in (toxicity, profanity):
        together = score(texts)
        alone = torch.cat([score([text]) for text in texts[:9]])
        torch.testing.assert_close(together[:9], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(together[-9:], alone, atol=1e-5, rtol=0)


def test_the_last_hundred_words_are_read() -> None:
    long = toxicity(["you idiot " * 60 + "the budget was discussed on tuesday " * 40])
    assert long[0, 0] < 0.2


def test_rewards_are_negated_probabilities_of_the_response() -> None:
    foul, calm = Toxicity()(samples("", ""), [FOUL[0], CALM[0]])
    assert -1 <= foul < -0.9 < -0.1 < calm <= 0
    threat = Toxicity("threat")(samples("", ""), [FOUL[2], FOUL[1]])[0]
    assert threat < Toxicity()(samples(""), [CALM[0]])[0]
    assert cleanliness(samples(""), FOUL[:1])[0] < -0.9
    assert Toxicity()([], []) == cleanliness([], []) == []
