"""What the files of a run hold: records, scores, the manifest.

A record is a Parquet file with one row per prompt, its responses and their ledgers. What a reward
says of the responses is in files of its own, so that another one is added without a text being
written again. The writer's settings are fixed and no file holds a time: the same rows are the same
bytes. Every page carries a checksum, which is verified when it is read.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, TypeAlias, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from trimtab.errors import ResultsError
from trimtab.guides.manifest import PolicyFacts
from trimtab.schema import SchemaError, check, schema_of, text, whole
from trimtab.types import Alternative, Group, Ledger, Prompt, Response

Answer: TypeAlias = float | str | None
"""What a reward said of a response: a score, why there is none, or None where it was not asked."""

FORMAT = 2
"""Of the folder; raised when what it holds, or how it is made, changes."""

AGAIN = "run the same command again: what is finished is kept"

_DO = "name a folder that `trimtab collect`, `trimtab evaluate` or `trimtab sweep` wrote"

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

WITHOUT_LEDGER = [
    *RECORD.names[:-1],
    *(f"responses.list.element.{part}" for part in ("tokens", "text", "finish")),
]

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


# --- records -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of a record: a group without rewards, and what else is known of its prompt."""

    id: str  # of the prompt
    group: Group
    meta: Mapping[str, Any] = field(default_factory=dict)  # rewards see it, guides do not


def dump_rows(rows: Sequence[Row]) -> bytes:
    """The rows as a Parquet file; their rewards are left out."""
    return _parquet([_plain(row) for row in rows], RECORD)


def load_rows(path: Path, *, ledger: bool = True) -> list[Row]:
    """The reverse of `dump_rows`; the ledgers are most of the file."""
    table = _table(path, RECORD, None if ledger else WITHOUT_LEDGER)
    return [_row(values) for values in table.to_pylist()]


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
        "responses": [
            {**vars(response), "ledger": _plain_ledger(response.ledger)}
            for response in group.responses
        ],
    }


def _plain_ledger(ledger: Ledger | None) -> dict[str, Any] | None:
    if ledger is None:
        return None
    steps = [[vars(one) for one in step] for step in ledger.alternatives]
    return {**vars(ledger), "alternatives": steps or None}


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


def _ledger(values: Mapping[str, Any] | None) -> Ledger | None:
    if values is None:
        return None
    steps = values["alternatives"] or ()
    alternatives = tuple(tuple(Alternative(**one) for one in step) for step in steps)
    names = [f.name for f in fields(Ledger) if f.name != "alternatives"]
    return Ledger(**{n: tuple(values[n]) for n in names}, alternatives=alternatives)


# --- scores --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scored:
    """What a reward said of the responses to one prompt."""

    id: str  # of the prompt
    seen: str
    answers: tuple[Answer, ...]

    @property
    def failed(self) -> bool:
        """Whether a response could not be scored."""
        return any(isinstance(answer, str) for answer in self.answers)


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
    return _parquet(plain, SCORES)


def load_scores(path: Path) -> list[Scored]:
    """The reverse of `dump_scores`; one entry per row of the record."""
    scored = []
    for values in _table(path, SCORES).to_pylist():
        pairs = zip(values["scores"], values["failed"], strict=True)
        answers = tuple(why if score is None else score for score, why in pairs)
        scored.append(Scored(values["id"], values["seen"], answers))
    return scored


def _parquet(rows: list[dict[str, Any]], schema: pa.Schema) -> bytes:
    out = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist(rows, schema=schema),
        out,
        version="2.6",
        data_page_version="1.0",
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
        row_group_size=max(1, len(rows)),
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
        raise ResultsError(
            f"{path} must be a whole Parquet file",
            got="no such file" if missing else str(error).splitlines()[0],
            do="delete that file, if it is there, and run the same command again",
        ) from error
    if table is None:
        raise ResultsError(
            f"{path} must have the columns {', '.join(schema.names)}",
            got=", ".join(found.names),
            do="name a folder that trimtab wrote",
        )
    return table


# --- the manifest --------------------------------------------------------------------------------


def _file_name(value: Any, name: str) -> None:
    """The name of a folder or a file beside others: never a path."""
    text(value, name)
    if not value or value.startswith(".") or set(value) & set("/\\"):
        raise SchemaError(f"{name} must be the name of a folder", repr(value)[:60])


FileName: TypeAlias = Annotated[str, _file_name]
Count: TypeAlias = Annotated[int, whole(0, 2**53)]


class RewardFacts(TypedDict):
    """What tells a reward, and where its scores are; statistics are for people alone."""

    fingerprint: str
    folder: FileName


class Manifest(TypedDict):
    """What a manifest must be: it may come from anybody."""

    format: Count
    trimtab: str
    about: PolicyFacts
    rewards: Mapping[str, RewardFacts]


class AnyManifest(Manifest, total=False):
    """The same, with what only some runs say."""

    complete: bool
    roles: Mapping[str, str]
    counts: Mapping[str, Any]


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What made a run's folder, and of a finished kept one its statistics.

    Returns:
        `format`, `trimtab` (its version), `about` (what all of it shares), `rewards` (by name:
        `fingerprint`, `folder` and statistics) and, of kept runs, `complete` and `counts`; those
        of `evaluate` have `roles`: the names of the task's "reward" and "judge".

    Raises:
        ResultsError: the folder is no run's, or that of another format.
    """
    path = Path(folder) / "manifest.json"
    manifest = read_json(path)
    if isinstance(manifest, dict) and manifest.get("format", FORMAT) != FORMAT:
        raise ResultsError(
            f"a run's folder must be of format {FORMAT}",
            got=f"{manifest['format']!r} in {folder}",
            do="run it anew, in another folder",
        )
    check(manifest, schema_of(AnyManifest), of=f"{path}", error=ResultsError, do=_DO)
    return dict(manifest)


def read_json(path: Path) -> Any:
    """The manifest or a condition, not yet checked."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(
            f"a run's folder must hold its {path.name}, whole",
            got=f"{path.parent} ({type(error).__name__})",
            do=_DO,
        ) from error


_NAMES = ("about.model.name", "about.prompts.source", "about.guide.name")
"""What a thing is called is no difference: its fingerprint is beside it."""


def check_same(folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder of other work.

    A complete one may have more rewards than are wanted. A reward may have been another function
    of its name: it will be asked anew.
    """
    theirs, mine = (_flat({k: m[k] for k in ("trimtab", "about")}) for m in (there, wanted))
    if "complete" in wanted or "complete" in there:
        for manifest, flat in ((there, theirs), (wanted, mine)):
            flat |= {f"reward {name}": "there" for name in manifest["rewards"]}
    asked = mine if there.get("complete") else mine.keys() | theirs.keys()
    other = [k for k in sorted(asked) if k not in _NAMES and theirs.get(k) != mine.get(k)]
    if other:
        raise ResultsError(
            f"the run in {folder} must be of the same job, model and version",
            got=", ".join(f"{k} {theirs.get(k)!r} (now {mine.get(k)!r})" for k in other),
            do="name another folder, or go back to what made this one"
            + ("; --relabel adds rewards to finished groups" if "complete" in there else ""),
        )


def _flat(thing: Any, name: str = "") -> dict[str, Any]:
    """Nested objects as one, their keys joined by dots."""
    if not isinstance(thing, dict):
        return {name: thing}
    found: dict[str, Any] = {}
    for key, value in thing.items():
        found |= _flat(value, f"{name}.{key}" if name else str(key))
    return found
