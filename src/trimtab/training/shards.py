"""Groups as Parquet files, one row each; what a reward says of them is in files of its own.

The writer's settings are fixed and no file holds a time, so the same groups are the same bytes.
Every page carries a checksum, which is verified when it is read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from trimtab.errors import DataError
from trimtab.types import Group, Prompt, Response

Said: TypeAlias = float | str | None
"""What a reward said of a response: a score, why there is none, or None where it was not asked."""

_IDS = pa.list_(pa.int32())
_RESPONSE = pa.struct(
    [
        ("tokens", _IDS),
        ("text", pa.string()),
        ("finish", pa.string()),
        ("logprobs", pa.list_(pa.float32())),
    ]
)
GROUPS = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("prompt_ids", _IDS, nullable=False),
        pa.field("prompt_text", pa.string()),
        pa.field("messages", pa.list_(pa.map_(pa.string(), pa.string()))),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("prefix", _IDS, nullable=False),
        pa.field("responses", pa.list_(_RESPONSE), nullable=False),
        pa.field("meta", pa.string()),
    ]
)
"""Columns of a file of groups. `index` is the prompt's place, `meta` the sample's, as JSON."""

SCORES = pa.schema(
    [
        pa.field("index", pa.int64(), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
        pa.field("failed", pa.list_(pa.string()), nullable=False),
    ]
)
"""Columns of a file of scores: one entry per response, and why it is null where it failed."""


@dataclass(frozen=True)
class Row:
    """A group as a shard keeps it: without rewards, with its place and what else is known of it.

    Attributes:
        index: the prompt's place among all prompts of the folder.
        group: the prompt and its responses.
        meta: of the task's sample; rewards see it, guides do not.
    """

    index: int
    group: Group
    meta: Mapping[str, Any] = field(default_factory=dict)


# --- groups --------------------------------------------------------------------------------------


def dump_rows(rows: Sequence[Row]) -> bytes:
    """The rows as a Parquet file; their rewards are left out."""
    return _bytes(pa.Table.from_pylist([_plain(row) for row in rows], schema=GROUPS))


def load_rows(path: Path) -> list[Row]:
    """The reverse of `dump_rows`.

    Raises:
        DataError: the file is not there, or not whole.
    """
    return [_row(values) for values in _table(path, GROUPS).to_pylist()]


def _plain(row: Row) -> dict[str, Any]:
    group, prompt = row.group, row.group.prompt
    messages = None if prompt.messages is None else [list(m.items()) for m in prompt.messages]
    return {
        "index": row.index,
        "prompt_ids": prompt.ids,
        "prompt_text": prompt.text,
        "messages": messages,
        "topic": group.topic,
        "prefix": group.prefix,
        "responses": [
            {"tokens": r.tokens, "text": r.text, "finish": r.finish, "logprobs": r.logprobs}
            for r in group.responses
        ],
        "meta": json.dumps(row.meta, sort_keys=True) if row.meta else None,
    }


def _row(values: Mapping[str, Any]) -> Row:
    messages = values["messages"]
    prompt = Prompt(
        tuple(values["prompt_ids"]),
        values["prompt_text"],
        None if messages is None else tuple(dict(m) for m in messages),
    )
    responses = tuple(
        Response(tuple(r["tokens"]), r["text"], r["finish"], tuple(r["logprobs"]))
        for r in values["responses"]
    )
    group = Group(prompt, responses, values["topic"], tuple(values["prefix"]))
    return Row(values["index"], group, json.loads(values["meta"]) if values["meta"] else {})


# --- scores --------------------------------------------------------------------------------------


def dump_scores(rows: Sequence[Row], said: Sequence[Sequence[Said]]) -> bytes:
    """What a reward said of every response of every row, as a Parquet file."""
    plain = [
        {
            "index": row.index,
            "scores": [x if isinstance(x, float) else None for x in of_row],
            "failed": [x if isinstance(x, str) else None for x in of_row],
        }
        for row, of_row in zip(rows, said, strict=True)
    ]
    return _bytes(pa.Table.from_pylist(plain, schema=SCORES))


def load_scores(path: Path) -> list[list[Said]]:
    """The reverse of `dump_scores`; one list per group, in the order of the groups' shard.

    Raises:
        DataError: the file is not there, or not whole.
    """
    return [
        [
            why if score is None else score
            for score, why in zip(v["scores"], v["failed"], strict=True)
        ]
        for v in _table(path, SCORES).to_pylist()
    ]


# --- files ---------------------------------------------------------------------------------------


def _bytes(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(
        table,
        out,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        row_group_size=max(1, len(table)),
    )
    return out.getvalue()


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    """One file, not a data set: folders named `a=b` above it mean nothing."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read()
    except (OSError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        got = "no such file" if missing else str(error).splitlines()[0]
        raise DataError(
            f"{path} must be a whole Parquet file",
            got=got,
            do="delete that file, if it is there, and run trimtab collect again",
        ) from error
    if not table.schema.equals(schema):
        raise DataError(
            f"{path} must have the columns {', '.join(schema.names)}",
            got=", ".join(table.schema.names),
            do="name a folder that trimtab wrote",
        )
    return table


def measure(path: Path) -> tuple[int, int]:
    """How many responses and tokens a file of groups holds, without building them.

    Raises:
        DataError: the file is not there, or not whole.
    """
    responses = pc.list_flatten(_table(path, GROUPS).column("responses"))
    lengths = pc.list_value_length(pc.struct_field(responses, "tokens"))
    return len(responses), pc.sum(lengths).as_py() or 0
