"""Files of every kind give back the prompts that were written, letter by letter."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from trimtab.cli.options import PromptOptions, read_prompts
from trimtab.runs import find_prompts
from trimtab.tasks import read_samples
from trimtab.tasks.files import KINDS, rows_in
from trimtab.training.preferences.reading import preference_rows

BOM = "\ufeff"


def lines(texts: list[str], mark: str, end: str) -> bytes:
    return (mark + "".join(text + end for text in texts)).encode()


def cells(texts: list[str], mark: str, end: str, delimiter: str = ",") -> bytes:
    out = io.StringIO(newline="")
    quoted = (
        csv.QUOTE_ALL
    )  # else Python before 3.13 writes a lone \r bare, as no reader can tell it
    rows = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=quoted)
    rows.writerows([["id", "prompt"], *([i, text] for i, text in enumerate(texts))])
    return (mark + out.getvalue()).encode()


def raw_json(texts: list[str], mark: str, end: str) -> bytes:
    return lines([json.dumps({"prompt": t}, ensure_ascii=False) for t in texts], mark, end)


def one_list(texts: list[str], mark: str, end: str) -> bytes:
    found = json.dumps([{"prompt": t} for t in texts], ensure_ascii=False, indent=1)
    return (mark + found.replace("\n", end)).encode()


def parquet(texts: list[str], mark: str, end: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": list(range(len(texts))), "prompt": texts}), out)
    return out.getvalue()


WRITE: dict[str, Callable[[list[str], str, str], bytes]] = {
    ".txt": lines,
    ".jsonl": raw_json,
    ".json": one_list,
    ".csv": cells,
    ".tsv": lambda texts, mark, end: cells(texts, mark, end, "\t"),
    ".parquet": parquet,
}

LETTERS = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from('\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e\r\n\t\0 ,;"\\{\ufeff#'),
)
TEXTS = st.lists(st.text(LETTERS, min_size=1).filter(str.strip), min_size=1, max_size=6)


def asked_of(path: Path, column: str | None = None) -> list[object]:
    """The prompts as the command line reads them."""
    return [s.prompt for s in read_prompts([], PromptOptions(prompts=str(path), column=column))]


def test_every_kind_is_tried() -> None:
    assert set(WRITE) == set(KINDS)


@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(TEXTS, st.sampled_from(["", BOM]), st.sampled_from(["\n", "\r\n"]))
@pytest.mark.parametrize("kind", KINDS)
def test_any_unicode_is_read_back_as_written(
    tmp_path: Path, kind: str, texts: list[str], mark: str, end: str
) -> None:
    if kind == ".txt":  # what ends a line can't be in one; nor can a mark be told from a letter
        assume(not any("\n" in text or text.endswith("\r") for text in texts))
        assume(mark or not texts[0].startswith(BOM))
    path = tmp_path / f"prompts{kind}"
    path.write_bytes(WRITE[kind](texts, mark, end))
    assert [sample.prompt for sample in read_samples(path)] == texts
    assert asked_of(path) == texts
    assert [row.values["prompt"] for row in preference_rows(path)] == texts
    assert [sample.prompt for sample in find_prompts(None, str(path), "all").samples] == texts


def test_a_long_cell_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_bytes(cells(["long " * 40_000], "", "\n"))
    limit = csv.field_size_limit()
    assert asked_of(path) == ["long " * 40_000]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_column_may_be_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"prompts{kind}"
    path.write_bytes(WRITE[kind](["Why?"], "", "\n").replace(b"prompt", b"reason"))
    (sample,) = read_samples(path, "reason")
    assert sample.prompt == "Why?"
    assert "reason" not in sample.meta
    assert asked_of(path, "reason") == ["Why?"]


def test_a_text_of_no_kind_is_looked_at() -> None:
    (row,) = rows_in(b'\xef\xbb\xbf {"prompt": "Why?"}\n', "stdin")
    assert row.prompt() == "Why?"
    (row,) = rows_in(b"Why?\n", "stdin")
    assert (row.prompt(), row.place) == ("Why?", "stdin, line 1")


def test_a_folder_that_looks_like_a_partition_adds_no_column(tmp_path: Path) -> None:
    folder = tmp_path / "split=train"
    folder.mkdir()
    (folder / "prompts.parquet").write_bytes(parquet(["Why?"], "", ""))
    (sample,) = read_samples(folder / "prompts.parquet")
    assert sample.meta == {"id": 0}
