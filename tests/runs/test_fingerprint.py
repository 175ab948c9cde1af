"""One fingerprint, one thing: different things differ, and the same thing does so nowhere."""

from __future__ import annotations

import copy
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trimtab as tt
from tests import toys
from tests.runs.pairs import PAIRS, Bonus, first_fingerprints, holding
from trimtab import rewards
from trimtab.plugins import package_of, source, version
from trimtab.runs.fingerprint import essence, fingerprint


def told(thing: object) -> str:
    """The fingerprint of a thing that has one."""
    found = fingerprint(thing)
    assert found.unknown == ""
    assert re.fullmatch("[0-9a-f]{32}", found.value)
    return found.value


@pytest.mark.parametrize("place", PAIRS)
def test_things_that_differ_in_one_hidden_place_have_two_fingerprints(place: str) -> None:
    build = PAIRS[place]
    assert told(build(0)) != told(build(1))


@pytest.mark.parametrize("place", [place for place in PAIRS if "equal text" not in place])
def test_a_thing_that_is_made_again_keeps_its_fingerprint(place: str) -> None:
    build = PAIRS[place]
    assert told(build(0)) == told(build(0))


@pytest.mark.slow
def test_another_process_finds_the_same_fingerprints() -> None:
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.runs.pairs"]
    theirs = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert json.loads(theirs.stdout) == first_fingerprints()


def test_saving_a_network_changes_no_fingerprint(tmp_path: Path) -> None:
    net = copy.deepcopy(toys.backbone())
    before = told(net)
    net.save_pretrained(tmp_path)
    assert told(net) == before


# --- nested values -------------------------------------------------------------------------------

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
VALUES = st.recursive(
    PLAIN | st.binary(max_size=3) | st.frozensets(PLAIN, max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def alike(x: Any, y: Any) -> bool:
    """Equal, of the same types, in the same order; what == does not tell apart is told."""
    if type(x) is not type(y):
        return False
    if isinstance(x, list | tuple):
        return len(x) == len(y) and all(map(alike, x, y))
    if isinstance(x, dict):
        return alike(list(x), list(y)) and alike(list(x.values()), list(y.values()))
    if isinstance(x, frozenset):
        return sorted(map(repr, x)) == sorted(map(repr, y))
    return repr(x) == repr(y)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(VALUES, VALUES)
def test_closures_are_alike_where_what_they_hold_is(x: Any, y: Any) -> None:
    assert told(holding(x)) == told(holding(copy.deepcopy(x)))
    assert (told(holding(x)) == told(holding(y))) == alike(x, y)


def test_what_holds_itself_has_a_fingerprint() -> None:
    def ring(value: int) -> list[Any]:
        inner: list[Any] = [value]
        inner.append({"outer": inner})
        return inner

    assert told(ring(1)) == told(ring(1)) != told(ring(2))
    pair = Bonus(None)
    pair.letter = pair.score  # a method of its own
    assert told(pair)


# --- what cannot be looked into ------------------------------------------------------------------


def _open_file() -> Callable[..., Any]:
    with Path(os.devnull).open() as handle:
        return holding(handle)


def _endless(depth: int = 100_000) -> list[Any]:
    found: list[Any] = []
    for _ in range(depth):
        found = [found]
    return found


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (_open_file, "the closure's value is a _io.TextIOWrapper, which cannot be looked into"),
        (lambda: Bonus(socket), None),
        (lambda: Bonus([{"a": (i for i in "ab")}]), ".letter is a generator, which cannot"),
        (lambda: holding(torch.zeros(2, device="meta")), "the closure's value is a torch.Tensor"),
        (_endless, "it is nested too deeply to be looked into"),
    ],
)
def test_what_cannot_be_looked_into_is_never_the_same_and_is_named(
    make: Callable[[], Any], why: str | None
) -> None:
    thing = make()
    first, second = fingerprint(thing), fingerprint(thing)
    if why is None:  # a module is known
        assert first == second
        return
    assert first.value != second.value
    assert why in first.unknown


def test_what_is_too_large_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trimtab.runs.fingerprint.MOST", 1000)
    assert told(Bonus([[i] for i in range(900)]))
    assert told(Bonus(list(range(5000)))), "numbers are not counted"
    found = fingerprint(Bonus([[i] for i in range(1000)]))
    assert found.unknown == "it holds more than 1,000 objects"


def test_a_socket_deep_inside_an_object_is_found() -> None:
    with socket.socket() as handle:
        found = fingerprint(Bonus(Bonus(handle)).score)
    assert found.unknown == ".letter.letter is a socket.socket, which cannot be looked into"


def test_a_thing_may_say_itself_what_it_is() -> None:
    with Path(os.devnull).open() as handle:
        first, second = Bonus(handle), Bonus([handle])
        first.fingerprint = second.fingerprint = "v1"  # type: ignore[attr-defined]
        assert told(first) == told(second)
        second.fingerprint = "v2"  # type: ignore[attr-defined]
        assert told(first) != told(second)


def test_an_object_is_what_it_pickles_as() -> None:
    class Client(Bonus):
        def __getstate__(self) -> object:
            return {"letter": self.letter}

    with socket.socket() as handle:
        first, second, other = Client("a"), Client("a"), Client("b")
        first.handle = handle  # type: ignore[attr-defined]
        assert told(first) == told(second) != told(other)


def test_a_class_may_say_what_of_it_decides() -> None:
    class Cached(Bonus):
        asked = 0

    @essence.register(Cached)
    def _(thing: Cached) -> object:
        return thing.letter

    one, same, other = Cached("a"), Cached("a"), Cached("b")
    same.asked = 5
    assert told(one) == told(same) != told(other)


# --- use, and what is installed ------------------------------------------------------------------


def test_guides_keep_their_fingerprint_while_they_are_used() -> None:
    lm, prompts = toys.language_model(), toys.prompts(5, 7)
    guides: list[Any] = [
        toys.value_guide(),
        tt.TextGuide(lambda p, t: [len(x) for x in t], lm.decode),
    ]
    guides.append(tt.WeightedSum([(0.5, guide) for guide in guides]))
    before = [told(guide) for guide in guides]
    for guide in guides:
        tt.decode(lm, guide, tt.args(k=3), prompts, max_new_tokens=4)
    assert [told(guide) for guide in guides] == before


def test_tokenizers_keep_their_fingerprint_while_they_are_used() -> None:
    tokenizer = copy.deepcopy(toys.tokenizer())
    before = told(tokenizer)
    tokenizer(["w1", "w1 w2"], padding=True, truncation=True, max_length=5)
    assert told(tokenizer) == before
    tokenizer.chat_template = "{{ messages }}"
    assert told(tokenizer) != before


def test_what_is_installed_is_known_by_name_and_version() -> None:
    assert package_of("torch.nn") == ["torch", version("torch")]
    assert package_of("json") == ["python"]
    assert package_of(__name__) is None
    assert version("yaml"), "the distribution has another name"
    own = package_of(rewards.find("sentiment").__module__)
    assert own is not None
    assert own[:2] == ["trimtab", tt.__version__]
    assert f"vaderSentiment {version('vaderSentiment')}" in own, "it is imported by name"


def test_a_file_stands_for_what_it_imports(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("import torch, near\nfrom missing import nothing\n")
    (tmp_path / "near.py").write_text("import main\nfrom json import loads\n")
    (tmp_path / "broken.py").write_text("def (")
    found = source(str(tmp_path / "main.py"))
    assert len(found) == 3
    assert found[2] == f"torch {version('torch')}"
    assert len(source(str(tmp_path / "broken.py"))) == 1
    assert source("<stdin>") == []


def test_rewards_by_name_are_known_in_no_time() -> None:
    for name in ("words", "brevity", "sentiment", "0.7*words - 0.01*length"):
        assert told(rewards.find(name))
