"""The record of a run: Parquet files with one row per prompt, its responses and their ledgers.

What a reward says of the responses is in files of its own, so that another one is added without a
text being written again. The writer's settings are fixed and no file holds a time: the same rows
are the same bytes. Every page carries a checksum, which is verified when it is read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.errors import ResultsError
from trimtab.types import Alternative, Group, Ledger, Prompt, Response

Answer: TypeAlias = float | str | None
"""What a reward said of a response: a score, why there is none, or None where it was not asked."""

FORMAT = 2
"""Of the folder; raised when what it holds, or how it is made, changes."""

_IDS = pa.list_(pa.int32())
_NUMBERS = pa.list_(pa.float32())
_ALTERNATIVE = pa.struct(
    [
        ("token", pa.int32()),
        ("ref_logprob", pa.float32()),
        ("score", pa.float32()),
        ("logprob", pa.float32()),
        ("text", pa.string()),
    ]
)
_LEDGER = pa.struct(
    [
        ("lengths", _IDS),
        ("texts", pa.list_(pa.string())),
        ("logprobs", _NUMBERS),
        ("ref_logprobs", _NUMBERS),
        ("scores", _NUMBERS),
        ("kl", _NUMBERS),
        ("base_tokens", pa.list_(pa.float64())),
        ("guide_tokens", pa.list_(pa.float64())),
        ("failed", pa.list_(pa.bool_())),
        ("alternatives", pa.list_(pa.list_(_ALTERNATIVE))),
    ]
)
_RESPONSE = pa.struct(
    [("tokens", _IDS), ("text", pa.string()), ("finish", pa.string()), ("ledger", _LEDGER)]
)
RECORD = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_ids", _IDS, nullable=False),
        pa.field("prompt_text", pa.string()),
        pa.field("messages", pa.list_(pa.map_(pa.string(), pa.string()))),
        pa.field("topic", pa.string(), nullable=False),
        pa.field("prefix", _IDS, nullable=False),
        pa.field("meta", pa.string()),
        pa.field("responses", pa.list_(_RESPONSE), nullable=False),
    ]
)
"""Columns of a record. `id` names the prompt, `meta` is what the task knows of it, as JSON."""

SCORES = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("seen", pa.string(), nullable=False),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
        pa.field("failed", pa.list_(pa.string()), nullable=False),
    ]
)
"""Columns of scores: one entry per response, and why it is null where it failed.

`seen` is the fingerprint of what the reward saw beside the prompt and the text, such as references.
"""


@dataclass(frozen=True)
class Row:
    """A row of a record: a group without rewards, and what else is known of its prompt.

    Attributes:
        id: of the prompt.
        group: the prompt and its responses.
        meta: of the task's sample; rewards see it, guides do not.
    """

    id: str
    group: Group
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scored:
    """What a reward said of the responses to one prompt.

    Attributes:
        id: of the prompt.
        seen: fingerprint of what the reward saw of it beside its text, such as references.
        answers: one per response.
    """

    id: str
    seen: str
    answers: tuple[Answer, ...]

    @property
    def failed(self) -> bool:
        """Whether a response could not be scored."""
        return any(isinstance(answer, str) for answer in self.answers)


# --- rows ----------------------------------------------------------------------------------------


def dump_rows(rows: Sequence[Row]) -> bytes:
    """The rows as a Parquet file; their rewards are left out."""
    return _bytes(pa.Table.from_pylist([_plain(row) for row in rows], schema=RECORD))


def load_rows(path: Path, *, ledger: bool = True) -> list[Row]:
    """The reverse of `dump_rows`.

    Args:
        path: of a record.
        ledger: False leaves the ledgers out, which are most of the file.

    Raises:
        ResultsError: the file is not there, or not whole.
    """
    table = _table(path, RECORD, None if ledger else _without_ledger())
    return [_row(values) for values in table.to_pylist()]


def as_json(meta: Mapping[str, Any]) -> Any:
    """What of a sample's `meta` comes back from a record; things of other types become text."""
    return json.loads(json.dumps(meta, default=str, sort_keys=True))


@cache
def _without_ledger() -> tuple[str, ...]:
    parts = ("tokens", "text", "finish")
    return (*RECORD.names[:-1], *(f"responses.list.element.{part}" for part in parts))


def _plain(row: Row) -> dict[str, Any]:
    group, prompt = row.group, row.group.prompt
    messages = None if prompt.messages is None else [list(m.items()) for m in prompt.messages]
    return {
        "id": row.id,
        "prompt_ids": prompt.ids,
        "prompt_text": prompt.text,
        "messages": messages,
        "topic": group.topic,
        "prefix": group.prefix,
        "meta": json.dumps(row.meta, sort_keys=True, default=str) if row.meta else None,
        "responses": [_plain_response(response) for response in group.responses],
    }


def _plain_response(response: Response) -> dict[str, Any]:
    ledger: dict[str, Any] | None = None
    if response.ledger is not None:
        ledger = dict(vars(response.ledger))
        ledger["alternatives"] = [
            [vars(one) for one in step] for step in response.ledger.alternatives
        ] or None
    return {
        "tokens": response.tokens,
        "text": response.text,
        "finish": response.finish,
        "ledger": ledger,
    }


def _row(values: Mapping[str, Any]) -> Row:
    messages = values["messages"]
    prompt = Prompt(
        tuple(values["prompt_ids"]),
        values["prompt_text"],
        None if messages is None else tuple(dict(m) for m in messages),
    )
    responses = tuple(
        Response(tuple(r["tokens"]), r["text"], r["finish"], _ledger(r.get("ledger")))
        for r in values["responses"]
    )
    group = Group(prompt, responses, values["topic"], tuple(values["prefix"]))
    return Row(values["id"], group, json.loads(values["meta"]) if values["meta"] else {})


_COLUMNS = tuple(f.name for f in fields(Ledger) if f.name != "alternatives")


def _ledger(values: Mapping[str, Any] | None) -> Ledger | None:
    if values is None:
        return None
    steps = values["alternatives"] or ()
    alternatives = tuple(tuple(Alternative(**one) for one in step) for step in steps)
    columns: dict[str, Any] = {name: tuple(values[name]) for name in _COLUMNS}
    return Ledger(**columns, alternatives=alternatives)


def with_texts(response: Response, text_of: Callable[[int], str]) -> Response:
    """The response with the text of each alternative of its ledger.

    Args:
        response: as it was decoded.
        text_of: the text of a token.
    """
    ledger = response.ledger
    if ledger is None or not ledger.alternatives:
        return response
    texts = {one.token: text_of(one.token) for step in ledger.alternatives for one in step}
    named = tuple(
        tuple(replace(one, text=texts[one.token]) for one in step) for step in ledger.alternatives
    )
    return replace(response, ledger=replace(ledger, alternatives=named))


# --- scores --------------------------------------------------------------------------------------


def dump_scores(scored: Iterable[Scored]) -> bytes:
    """What a reward said of every response of every row, as a Parquet file."""
    plain = [
        {
            "id": row.id,
            "seen": row.seen,
            "scores": [x if isinstance(x, float) else None for x in row.answers],
            "failed": [x if isinstance(x, str) else None for x in row.answers],
        }
        for row in scored
    ]
    return _bytes(pa.Table.from_pylist(plain, schema=SCORES))


def load_scores(path: Path) -> list[Scored]:
    """The reverse of `dump_scores`; one entry per row of the record.

    Raises:
        ResultsError: the file is not there, or not whole.
    """
    return [
        Scored(
            v["id"],
            v["seen"],
            tuple(
                why if score is None else score
                for score, why in zip(v["scores"], v["failed"], strict=True)
            ),
        )
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


def _table(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pa.Table:
    """One file, not a data set: folders named `a=b` above it mean nothing."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow
            table = file.read(columns) if found.equals(schema) else None
    except (OSError, pa.ArrowException) as error:
        missing = isinstance(error, FileNotFoundError)
        got = "no such file" if missing else str(error).splitlines()[0]
        raise ResultsError(
            f"{path} must be a whole Parquet file",
            got=got,
            do="delete that file, if it is there, and run the same command again",
        ) from error
    if table is None:
        raise ResultsError(
            f"{path} must have the columns {', '.join(schema.names)}",
            got=", ".join(found.names),
            do="name a folder that trimtab wrote",
        )
    return table
