"""The same preferences in any format are the same groups; a bad row is named by its place."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import toys
from tests.training.preferences_world import chat_model, said, transcript
from trimtab.errors import DataError, FetchError, PromptError, UsageError
from trimtab.training.preferences import read_preferences
from trimtab.types import Prompt, Response

ROW = {"prompt": "w3 w4", "chosen": " w5 w6", "rejected": " w7"}


def write(path: Path, rows: list[Any]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_a_preference_is_a_group_of_two() -> None:
    (group,), dropped = read_preferences([ROW], toys.language_model())
    assert group.prompt == Prompt((3, 4), "w3 w4")
    assert group.topic == "w3 w4"
    assert group.responses == (
        Response((5, 6, toys.EOS), " w5 w6", rewards={"preference": 1.0}),
        Response((7, toys.EOS), " w7", rewards={"preference": 0.0}),
    )
    assert str(dropped) == "all 1 pairs"


def test_with_a_template_the_ids_are_the_templates() -> None:
    (group,), _ = read_preferences([ROW], chat_model())
    assert group.prompt.ids == (1, 2, 3, 4, 0, 2)  # BOS user w3 w4 EOS assistant
    assert [r.tokens for r in group.responses] == [(5, 6, 0), (7, 0)]


# --- formats -------------------------------------------------------------------------------------

# Not w10 to w19: the toys' tokenizer finds BOS, w1, in them.
WORDS = st.lists(st.integers(20, 90).map("w{}".format), min_size=1, max_size=4).map(" ".join)
PAIRS = st.tuples(WORDS, WORDS).filter(lambda p: p[0].split()[0] != p[1].split()[0])
DATA = st.lists(st.tuples(WORDS, PAIRS), min_size=1, max_size=4)
DIALOGUES = st.lists(
    st.tuples(st.tuples(WORDS, WORDS, WORDS), PAIRS), min_size=1, max_size=4
)  # two questions and the first answer


def rows_of(data: list[Any]) -> dict[str, list[dict[str, Any]]]:
    """The same preferences in every format that can hold conversations."""
    shape: dict[str, list[dict[str, Any]]] = {}
    for asked, sides in data:
        turns = [asked] if isinstance(asked, str) else list(asked)
        messages, text = said(*turns), transcript(*turns) + "\n\nAssistant:"
        both = dict(zip(("chosen", "rejected"), sides, strict=True))
        answers = {k: [{"role": "assistant", "content": v}] for k, v in both.items()}
        sharegpt = {"user": "human", "assistant": "gpt"}
        for name, row in {
            "messages": {"prompt": messages, **answers},
            "whole messages": {k: messages + v for k, v in answers.items()},
            "repeated prompt": {
                "prompt": turns[0],
                **{k: messages + v for k, v in answers.items()},
            },
            "transcript": {"prompt": text, **{k: f" {v}" for k, v in both.items()}},
            "whole transcript": {k: f"{text} {v}" for k, v in both.items()},
            "sharegpt": {
                "conversations": [
                    {"from": sharegpt[m["role"]], "value": m["content"]} for m in messages
                ],
                **{k: {"from": "gpt", "value": v} for k, v in both.items()},
            },
        }.items():
            shape.setdefault(name, []).append(row)
        if len(turns) == 1:
            shape.setdefault("text", []).append({"prompt": turns[0], **both})
    return shape


@settings(deadline=None, max_examples=40)
@given(DATA)
def test_the_same_data_in_any_format_are_the_same_groups(data: list[Any]) -> None:
    formats = rows_of(data)
    want = read_preferences(formats.pop("text"), chat_model())
    for name, rows in formats.items():
        assert read_preferences(rows, chat_model()) == want, name


@settings(deadline=None, max_examples=40)
@given(DIALOGUES)
def test_histories_of_many_turns_are_kept(data: list[Any]) -> None:
    formats = rows_of(data)
    want, _ = read_preferences(formats.pop("messages"), chat_model())
    assert [len(g.prompt.messages or ()) for g in want] == [3] * len(data)
    assert [g.topic for g in want] == [turns[0] for turns, _ in data]
    for name, rows in formats.items():
        assert read_preferences(rows, chat_model())[0] == want, name


@settings(deadline=None, max_examples=40)
@given(DATA)
def test_texts_that_hold_their_prompt_are_split_after_common_words(data: list[Any]) -> None:
    texts = [{"prompt": q, "chosen": f" {a}", "rejected": f" {b}"} for q, (a, b) in data]
    whole = [{"chosen": f"{q} {a}", "rejected": f"{q} {b}"} for q, (a, b) in data]
    lm = toys.language_model()
    assert read_preferences(whole, lm) == read_preferences(texts, lm)


@pytest.mark.parametrize(
    ("chosen", "rejected", "prompt"),
    [
        ("Is it? Yes.", "Is it? Yesterday.", "Is it?"),
        ("Is it?\nYes.", "Is it?\nNo.", "Is it?\n"),
        ("Is it? Yes", "Is it? Yes and no", "Is it? Yes"),
    ],
)
def test_a_prompt_ends_at_a_word(chosen: str, rejected: str, prompt: str) -> None:
    rows = [{"chosen": chosen, "rejected": rejected}]
    (group,), _ = read_preferences(rows, toys.language_model())
    assert group.prompt.text == prompt
    assert group.responses[0].text == chosen.removeprefix(prompt)


def test_without_a_template_a_transcript_stays_a_text() -> None:
    rows = rows_of([(("w3", "w4", "w5"), ("w6", "w7"))])
    (group,), _ = read_preferences(rows["whole transcript"], toys.language_model())
    assert group.prompt.text == transcript("w3", "w4", "w5") + "\n\nAssistant:"
    assert group.prompt.messages is None
    assert group.responses[0].text == " w6"
    assert group.topic == "w3"
    with pytest.raises(PromptError, match="messages need a tokenizer with a chat template"):
        read_preferences(rows["messages"], toys.language_model())


def test_sides_without_a_common_prompt_are_counted() -> None:
    good = {"chosen": said("w3", "w4"), "rejected": said("w3", "w5")}
    other = {"chosen": said("w3", "w4"), "rejected": said("w6", "w5")}
    groups, dropped = read_preferences([good, other], chat_model())
    assert len(groups) == 1
    assert str(dropped) == "1 of 2 pairs; left out: 1 that share no prompt"
    with pytest.raises(DataError, match="0 of 1 pairs; left out: 1 that share no prompt"):
        read_preferences([{"chosen": "w3 w4", "rejected": "w5 w4"}], chat_model())


def test_a_topic_of_its_own() -> None:
    (group,), _ = read_preferences([{**ROW, "topic": "fog"}], toys.language_model())
    assert group.topic == "fog"


# --- sources -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".parquet"])
@pytest.mark.parametrize("name", ["text", "messages", "whole messages", "sharegpt"])
def test_files_of_every_kind(tmp_path: Path, kind: str, name: str) -> None:
    rows = rows_of([("w3 w4", ("w5", "w6")), ("w7", ("w8 w9", "w5"))])[name]
    want = read_preferences(rows, chat_model())
    path = write(tmp_path / f"mine{kind}", rows)
    assert read_preferences(path, chat_model()) == want
    assert read_preferences(str(path), chat_model()) == want


def test_the_hub_is_read_by_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, split: str) -> list[Any]:
        asked.append((name, split))
        if split == "dev":
            raise ValueError("Unknown split 'dev'.\nShould be one of ['train'].")
        if name == "far/away":
            raise ConnectionError
        return [ROW]

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    want = read_preferences([ROW], toys.language_model())
    assert read_preferences("hub:someone/pairs", toys.language_model()) == want
    assert read_preferences("hub:pairs@test[:9]", toys.language_model()) == want
    assert asked == [("someone/pairs", "train"), ("pairs", "test[:9]")]
    with pytest.raises(FetchError, match="'pairs', split 'dev' .ValueError: Unknown split"):
        read_preferences("hub:pairs@dev", toys.language_model())
    with pytest.raises(FetchError, match="ConnectionError"):
        read_preferences("hub:far/away", toys.language_model())


def test_the_hub_needs_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(UsageError, match="pip install 'trimtab\\[data\\]'"):
        read_preferences("hub:someone/pairs", toys.language_model())


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.xlsx", b"PK", "must be one of .txt, .jsonl, .json, .csv, .tsv, .parquet"),
        ("a.json", b'{"chosen": "a"}', "must hold a list of rows; got a dict"),
        ("a.json", b'{"chosen": 1}\n{"chosen": 2}', "name it .jsonl if each line is a row"),
        ("a.json", "Größe".encode("latin-1"), "must be a readable file in UTF-8"),
        ("a.json", None, "must be a readable file"),
        ("a.jsonl", None, "must be a readable file"),
    ],
)
def test_a_source_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=says):
        read_preferences(tmp_path / name, toys.language_model())


def test_no_rows_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="mine.jsonl must hold preferences; got no row"):
        read_preferences(write(tmp_path / "mine.jsonl", []), toys.language_model())
    with pytest.raises(DataError, match="the source must hold preferences"):
        read_preferences([], toys.language_model())


# --- malformed rows ------------------------------------------------------------------------------

ANSWER = said("w3", "w4")[1:]
BAD: list[tuple[Any, str]] = [
    ('{"chosen": ', "must be JSON"),
    ("[1]", "must be an object"),
    ({"prompt": "w3"}, "a row must have `chosen` and `rejected`; got prompt"),
    ({"chosen": "w3", "rejected": None}, "a row must have `rejected`; got chosen"),
    ({**ROW, "chosen": 5}, "`chosen` and `rejected` must both be texts, or both lists"),
    ({**ROW, "chosen": ANSWER}, "`chosen` and `rejected` must both be texts, or both lists"),
    ({**ROW, "prompt": said("w3")}, "`prompt` must be a text where `chosen`"),
    ({**ROW, "prompt": " "}, "`prompt` must be a text that is not empty"),
    ({**ROW, "topic": ""}, "`topic` must be a text that is not empty"),
    ({"chosen": [], "rejected": []}, "`chosen` must end with the assistant's message; got None"),
    ({"chosen": said("w3"), "rejected": said("w3")}, "`chosen` must end with the assistant's"),
    ({"chosen": ANSWER, "rejected": ANSWER}, "a row must have a `prompt`, or whole conversations"),
    ({"prompt": [], "chosen": ANSWER, "rejected": ANSWER}, "`prompt` must be a list of messages"),
    (
        {"prompt": said("w3", "w4"), "chosen": ANSWER, "rejected": ANSWER},
        "the prompt must end before the assistant's turn",
    ),
    (
        {"prompt": "w3", "chosen": [{"role": "assistant"}], "rejected": ANSWER},
        "a message must have a text as content",
    ),
]


@pytest.mark.parametrize(("row", "says"), BAD)
def test_a_malformed_row_is_named_by_its_line(tmp_path: Path, row: Any, says: str) -> None:
    path = write(tmp_path / "mine.jsonl", ["", row])
    with pytest.raises(PromptError) as caught:
        read_preferences(path, chat_model())
    assert str(caught.value).startswith("mine.jsonl, line 2: ")
    assert says in str(caught.value)


def test_rows_in_memory_have_a_place_too() -> None:
    with pytest.raises(PromptError, match="row 2: must be an object with columns; got 'w3'"):
        read_preferences(iter([ROW, "w3"]), toys.language_model())


def test_formats_must_not_mix() -> None:
    implicit = {"chosen": "w3 w4", "rejected": "w3 w5"}
    says = "row 3: every row must be standard, as the first is; got standard with implicit prompt"
    with pytest.raises(PromptError, match=says):
        read_preferences([ROW, ROW, implicit], toys.language_model())
