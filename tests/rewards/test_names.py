"""Sums of rewards: what they are worth, how they are written, how they travel."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.toys import samples
from trimtab import rewards
from trimtab.errors import PluginError, RewardError, UnknownNameError, UsageError
from trimtab.rewards import Sum, parse, spelled
from trimtab.runs.fingerprint import fingerprint
from trimtab.runs.resolve import GuideSource, Scorer, find_reward, name_of

NAMES = ("words", "brevity", "profanity", "formality")
ODD_NAMES = (
    *NAMES, "rated-sentiment", "python:./a-b/c.py:f", "hf:org/my-model.v2#good",
    "http://127.0.0.1:8000/score-it?x=1+2", "a*b",
)  # fmt: skip
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)

terms_of = st.lists(st.tuples(WEIGHTS, st.sampled_from(ODD_NAMES)), min_size=1, max_size=4)


@given(terms_of)
def test_what_is_printed_is_parsed_again(terms: list[tuple[float, str]]) -> None:
    found = Sum(tuple(terms))
    assert parse(spelled(found.terms)) == found
    assert repr(found) == spelled(found.terms).replace("?x=1+2", "")  # which may be secret
    assert repr(parse(repr(found))) == repr(found)


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.sampled_from(NAMES)), min_size=1, max_size=4),
    st.lists(st.text(max_size=20), max_size=4),
)
def test_a_sum_is_the_weighted_sum(terms: list[tuple[float, str]], texts: list[str]) -> None:
    asked = samples(*texts)
    each = [rewards.find(name)(asked, texts) for _, name in terms]
    want = [sum(w * s[i] for (w, _), s in zip(terms, each, strict=True)) for i in range(len(texts))]
    assert rewards.find(spelled(terms))(asked, texts) == pytest.approx(want, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("-1*length", ((-1.0, "length"),)),
        ("0.7*sentiment - 0.01*length", ((0.7, "sentiment"), (-0.01, "length"))),
        ("sentiment + rated-sentiment", ((1.0, "sentiment"), (1.0, "rated-sentiment"))),
        ("- length", ((-1.0, "length"),)),
        ("-length", ((-1.0, "length"),)),
        ("+.5*length", ((0.5, "length"),)),
        ("  1e-3*a   -\n-2*b ", ((0.001, "a"), (2.0, "b"))),
        ("hf:a/b-c#d - python:x-y.py:f", ((1.0, "hf:a/b-c#d"), (-1.0, "python:x-y.py:f"))),
    ],
)
def test_a_sign_between_terms_stands_between_blanks(
    text: str, terms: tuple[tuple[float, str], ...]
) -> None:
    found = parse(text)
    assert found is not None
    assert found.terms == terms


@pytest.mark.parametrize("text", ["length", "rated-sentiment", "a-0.5*b", "hf:x/y-z", "", " "])
def test_one_name_is_no_sum(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize("text", ["length -", "length - * words", "* length", "2*", "a + + b"])
def test_a_missing_term_is_said(text: str) -> None:
    with pytest.raises(UsageError):
        rewards.find(text)


def test_unknown_names_offer_near_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean sentiment"):
        rewards.find("0.5*sentimant - words")
    with pytest.raises(UnknownNameError, match="'sentiment - 0.1"):
        rewards.find("sentiment-0.5*words")
    with pytest.raises(UsageError, match="finite weights"):
        Sum(((float("nan"), "words"),))
    with pytest.raises(UsageError, match="must have terms"):
        Sum(())


def test_a_part_that_fails_says_so() -> None:
    with pytest.raises(RewardError, match="reference"):
        rewards.find("words + exact")(samples("x"), ["y"])


def test_a_sum_travels_and_keeps_its_fingerprint() -> None:
    found = rewards.find("0.5*words - formality")
    back = pickle.loads(pickle.dumps(found))  # noqa: S301  (our own bytes)
    assert back == found
    assert fingerprint(back) == fingerprint(found)
    others = ["0.5*words + formality", "0.4*words - formality", "0.5*words - profanity", "words"]
    assert len({fingerprint(rewards.find(name)) for name in [repr(found), *others]}) == 5


def test_tables_call_a_sum_as_it_is_written(tmp_path: Path) -> None:
    spec = "0.5*words - 2*http://me:secret@host:80/score"
    scorer = find_reward(spec)
    assert scorer.name == "0.5*words - 2*host:80/score" == name_of(rewards.find(spec))
    assert find_reward(rewards.find(spec)) == Scorer(
        scorer.name, rewards.find(spec), scorer.fingerprint
    )
    assert len(find_reward(" + ".join(["words"] * 80)).key) < 120
    pickle.dumps(GuideSource.on_prefixes(scorer))


def test_a_sum_may_hold_a_function_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "my-rewards.py"
    path.write_text(
        "def texts(prompts, responses):\n"
        "    return [float(len(p)) for p in prompts]\n"
        "def whole(samples, responses):\n"
        "    return [float(s.meta['reference'] == r) for s, r in zip(samples, responses)]\n"
    )
    both = rewards.find(f"10*python:{path}:texts + python:{path}:whole")
    assert both(samples("abc", "d", reference="yes"), ["yes", "no"]) == [31.0, 10.0]
    scorer = find_reward(f"python:{path}:texts")
    assert scorer.name == "texts"
    assert scorer.fingerprint != find_reward(f"python:{path}:whole").fingerprint


def test_a_reward_of_an_installed_package_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "polite_rewards.py").write_text("def polite(prompts, responses): return [2.0]\n")
    about = tmp_path / "polite-2.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: polite\nVersion: 2.0\n")
    offers = "polite-words = polite_rewards:polite\ngone-words = no_such_module:polite\n"
    (about / "entry_points.txt").write_text(f"[trimtab.rewards]\n{offers}")
    monkeypatch.syspath_prepend(tmp_path)
    assert rewards.find("polite-words - 3*words")(samples("x"), ["y"]) == [-1.0]
    assert find_reward("polite-words").name == "polite-words"
    with pytest.raises(PluginError, match="the plugin 'gone-words' of polite 2.0 must load"):
        rewards.find("gone-words")
    with pytest.raises(UnknownNameError, match="did you mean polite-words"):
        rewards.find("polite-wrods")


def test_the_door_has_what_it_names() -> None:
    for name in rewards.__all__:
        assert getattr(rewards, name) is not None
    assert {*rewards.__all__} <= {*dir(rewards)}
