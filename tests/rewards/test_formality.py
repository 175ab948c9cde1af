"""The formality classifier: its features, and plain cases."""

from __future__ import annotations

import pytest

from tests.toys import samples
from trimtab import rewards
from trimtab.rewards.shipped import features, shape, tensors, tokens, words

FORMAL = [
    "The committee has submitted its report on the economic consequences of the agreement.",
    "We find no clear relation between income inequality and class-based voting.",
    "All seven aboard the plane are stationed at the Coast Guard Air Station in Sacramento, Calif.",
]
INFORMAL = [
    "A BIG THANKYOU GOES TO holli!",
    "2) Just wipe the Mac OS X partition when u install the dapper.",
    "alright, well, i guess i just made a newbie mistake.",
    "Wait.",
]
"""Most are the examples that the corpus' author gives, with his ratings."""


def test_formal_sentences_are_told_from_informal_ones() -> None:
    formal = rewards.find("formality")(samples(*FORMAL), FORMAL)
    informal = rewards.find("formality")(samples(*INFORMAL), INFORMAL)
    assert min(formal) > 0 > max(informal)


def test_a_text_has_the_mean_of_its_sentences() -> None:
    both = f"{FORMAL[0]} {INFORMAL[2]}"
    one, two, mean, none = rewards.find("formality")(
        samples(*"1234"), [FORMAL[0], INFORMAL[2], both, " \n"]
    )
    assert mean == pytest.approx((one + two) / 2)
    assert none == 0.0


def test_tokens_are_a_treebanks() -> None:
    assert tokens('He said, "I don\'t."') == ["He", "said", ",", "``", "I", "do", "n't", ".", "''"]
    assert tokens("It's 3.50...") == ["It", "'s", "3.50", "..."]
    assert shape("I'm") == "A!a"


def test_a_score_is_the_bias_and_the_weights_of_distinct_features() -> None:
    known = dict(zip(words("formality"), tensors("formality")["weight"].tolist(), strict=True))
    found = set(features(["the", "fog", "the"]))
    assert {"at 2", "word fog", "after the", "before fog", "first3 the", "last4 fog"} <= found
    want = tensors("formality")["bias"].item() + sum(known.get(f, 0.0) for f in found)
    assert rewards.find("formality")(samples("x"), ["the fog the"]) == [pytest.approx(want)]
