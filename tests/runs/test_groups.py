"""Groups on disk: what is written comes back, the same groups are the same bytes, gaps are said."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.mutations import mutations
from tests.runs import world
from tests.runs.world import files
from trimtab.errors import DataError, ResultsError
from trimtab.runs import groups as stores
from trimtab.runs import read_groups, read_manifest, write_groups
from trimtab.runs.store import Store
from trimtab.training.data import base_temperature
from trimtab.types import Alternative, Group, Ledger, Prompt, Response

# --- any groups ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
IDS = st.lists(st.integers(0, 2**31 - 1), max_size=6).map(tuple)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": TEXT}),
    min_size=1,
    max_size=3,
).map(tuple)
PROMPTS = st.tuples(IDS, st.none() | TEXT, st.none() | MESSAGES)
NUMBER = st.floats(width=32, allow_nan=False)
ALTERNATIVES = st.tuples(st.integers(0, 2**31 - 1), NUMBER, NUMBER, NUMBER, TEXT)
STEPS = st.tuples(
    st.integers(0, 9),
    TEXT,
    NUMBER,
    NUMBER,
    NUMBER,
    st.none() | NUMBER,
    st.floats(0, 1e9),
    st.floats(0, 1e9),
    st.booleans(),
    st.lists(ALTERNATIVES, min_size=1, max_size=2).map(tuple),
)


LEDGERS = st.tuples(st.lists(STEPS, max_size=4), st.booleans())
RESPONSES = st.tuples(
    IDS,
    TEXT,
    st.sampled_from([None, "eos", "length", "stop"]),
    st.none() | LEDGERS,
    st.dictionaries(
        st.sampled_from(["a", "b", "0.5*a - b", "0.5*a + b"]),
        st.floats(-1e100, 1e100),
        max_size=3,
    ),
)
GROUPS = st.lists(st.tuples(PROMPTS, st.lists(RESPONSES, max_size=3), TEXT, IDS), max_size=4)
"""Parts of groups; they are put together in the test, where shapes are checked at random."""


def ledger(steps: list[Any], alternatives: bool) -> Ledger:
    columns = [tuple(column) for column in zip(*steps, strict=True)] or [()] * 10
    likeliest = tuple(tuple(Alternative(*one) for one in step) for step in columns[9])
    return Ledger(*[*columns[:9], likeliest if alternatives else ()])


def response(tokens: Any, text: str, finish: Any, parts: Any, rewards: Any) -> Response:
    return Response(tokens, text, finish, parts and ledger(*parts), rewards)


def built(parts: list[Any]) -> list[Group]:
    return [
        Group(Prompt(*prompt), tuple(response(*r) for r in responses), topic, prefix)
        for prompt, responses, topic, prefix in parts
    ]


@settings(max_examples=60, deadline=None)
@given(GROUPS)
def test_groups_come_back_and_the_same_are_the_same_bytes(parts: list[Any]) -> None:
    groups = built(parts)
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        manifest = write_groups(a, groups, {"source": "drawn"})
        assert read_groups(a) == tuple(groups)
        assert manifest == read_manifest(a)
        assert manifest["counts"]["responses"] == sum(len(g.responses) for g in groups)
        write_groups(b, groups, {"source": "drawn"})
        assert files(Path(a)) == files(Path(b))
        assert not (Path(a) / "locks").exists()


# --- a few groups --------------------------------------------------------------------------------


def pair(i: int, **scores: float) -> Group:
    chosen = Response((i, 0), f"text {i}", rewards=scores)
    return Group(Prompt((i,), f"{i}"), (chosen, Response((0,), "")), f"topic {i}")


GIVEN = [pair(i, a=float(i)) for i in range(7)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven groups in shards of two."""
    monkeypatch.setattr(stores, "GIVEN", 2)
    write_groups(tmp_path / "groups", GIVEN, {"source": "a friend"})
    return tmp_path / "groups"


def test_the_manifest_says_what_there_is(folder: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest["complete"] is True
    assert len(world.records(folder)) == 4
    assert manifest["about"]["source"] == "a friend"
    assert manifest["counts"] == {
        "groups": 7,
        "responses": 14,
        "tokens": 21,
        "finish": {"given": 14},
    }
    facts = manifest["rewards"]["a"]
    assert (facts["n"], facts["failed"], facts["mean"], facts["min"], facts["max"]) == (
        7,
        0,
        3.0,
        0.0,
        6.0,
    )
    assert facts["std"] == pytest.approx(math.sqrt(28 / 6))
    assert facts["within_std"] is None  # one score in each group


def test_a_missing_file_is_named_and_the_rest_can_be_read(folder: Path) -> None:
    gone = world.records(folder)[2]
    gone.unlink()
    with pytest.raises(DataError, match=rf"no records/{gone.name}; run the same command again"):
        read_groups(folder)
    assert list(read_groups(folder, partial=True)) == GIVEN[:4] + GIVEN[6:]


def test_missing_scores_are_named_and_the_texts_can_be_read(folder: Path) -> None:
    (scores,) = (folder / "scores").iterdir()
    gone = scores / world.records(folder)[0].name
    gone.unlink()
    with pytest.raises(DataError, match=rf"no scores/{scores.name}/{gone.name}"):
        read_groups(folder)
    found = read_groups(folder, partial=True)
    assert found[0].responses[0].rewards == {}
    assert found[2].responses[0].rewards == {"a": 2.0}


def test_many_missing_files_are_counted(folder: Path) -> None:
    for path in (folder / "records").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="and 1 more"):
        read_groups(folder)


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_file_is_named(folder: Path, damage: str) -> None:
    path = world.records(folder)[1]
    whole = bytearray(path.read_bytes())
    whole[60] ^= 0xFF
    path.write_bytes({"cut": whole[:100], "flip": whole, "empty": b""}[damage])
    with pytest.raises(DataError, match=rf"{path.name} must be a whole Parquet file"):
        read_groups(folder)


def test_a_file_of_something_else_is_named(folder: Path) -> None:
    (scores,) = (folder / "scores").iterdir()
    second = world.records(folder)[1]
    (scores / second.name).replace(second)
    with pytest.raises(DataError, match="must have the columns id, prompt_ids"):
        read_groups(folder, partial=True)


def test_a_folder_of_something_else_is_said_to_be_none(tmp_path: Path) -> None:
    for text in (None, "{", "[]", "{}"):
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match="manifest.json"):
            read_groups(tmp_path)
    (tmp_path / "manifest.json").write_text('{"format": 99, "shards": 1, "rewards": {}}')
    with pytest.raises(DataError, match="must be of format 2; got 99"):
        read_manifest(tmp_path)


def test_other_groups_are_refused_and_the_same_are_written_again(folder: Path) -> None:
    before = files(folder)
    write_groups(folder, GIVEN, {"source": "a friend"})
    assert files(folder) == before
    with pytest.raises(DataError, match=r"about\.source 'a friend' \(now 'a foe'\)"):
        write_groups(folder, GIVEN, {"source": "a foe"})
    with pytest.raises(DataError, match=r"about\.sha256"):
        write_groups(folder, [replace(GIVEN[0], topic="x"), *GIVEN[1:]], {"source": "a friend"})
    assert files(folder) == before


def test_a_folder_that_cannot_be_written_is_said_plainly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="name another folder"):
        write_groups(tmp_path / "file", GIVEN)


def test_a_folder_is_complete_when_its_manifest_says_so(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"complete": False}))
    with pytest.raises(DataError, match="got a job that did not end; run the same command again"):
        read_groups(folder)
    assert list(read_groups(folder, partial=True)) == GIVEN


def test_locks_that_are_cleared_away_meanwhile_are_made_anew(folder: Path) -> None:
    there = Store(folder)
    with there.claim("x") as mine:
        assert mine
        with there.claim("x") as twice:
            assert not twice
        there.tidy(read_manifest(folder))
        with there.claim("y") as other:
            assert other
    there.tidy(read_manifest(folder))
    assert not (folder / "locks").exists()


def test_rewards_that_failed_are_left_out(tmp_path: Path) -> None:
    world.roll(tmp_path, rewards=[world.no_cc, world.count_b], on_reward_error="skip")
    responses = [r for g in read_groups(tmp_path) for r in g.responses]
    assert any("cc" in r.text for r in responses)
    for response in responses:
        assert ("no_cc" in response.rewards) == ("cc" not in response.text)
        assert "count_b" in response.rewards


def test_a_tampered_manifest_is_a_data_error_or_read(folder: Path) -> None:
    """One change anywhere: dropped, of another type, out of range, added."""
    at = folder / "manifest.json"
    body = json.loads(at.read_text())
    body["about"]["model"] = {"base_temperature": 0.7, "tokenizer": "abc", "name": "m"}

    @settings(max_examples=100, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(mutations(body))
    def holds(manifest: dict[str, Any]) -> None:
        at.write_text(json.dumps(manifest))
        said = "format"
        try:
            base_temperature([read_manifest(folder)["about"]])
            read_groups(folder)
        except DataError as error:
            said = str(error)
        assert "\n" not in said
        assert str(folder) in said or "format" in said

    holds()


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", "..", "", "a\\b", ".hidden"])
def test_a_rewards_folder_is_never_elsewhere(folder: Path, name: str) -> None:
    at = folder / "manifest.json"
    body = json.loads(at.read_text())
    next(iter(body["rewards"].values()))["folder"] = name
    at.write_text(json.dumps(body))
    with pytest.raises(DataError, match="folder must be the name of a folder"):
        read_groups(folder)
