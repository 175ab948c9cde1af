"""Tables as JSON, CSV and Markdown, byte for byte the same for the same figures.

JSON holds `{"about": {...}, "columns": [...], "rows": [{...}], "best_of": [{...}], "asked": [[name,
heading, format]]}`, CSV the rows.
Both give six significant digits: the last bits of a sum may depend on the machine. Markdown is for
reading: means with their standard errors.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence

from trimtab.evaluation.cells import title
from trimtab.evaluation.measured import Row, Value
from trimtab.evaluation.metrics import Column
from trimtab.evaluation.tables import Table

DIGITS = 6


def rounded(value: Value) -> Value:
    """A float to six significant digits; -0 is 0."""
    return float(f"{value:.{DIGITS}g}") + 0.0 if isinstance(value, float) else value


def to_json(table: Table) -> str:
    """The whole table."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    whole = {
        "about": table.about,
        "columns": columns,
        "rows": [{k: rounded(v) for k, v in row.items()} for row in table.rows],
        "best_of": [{k: rounded(v) for k, v in row.items()} for row in table.best_of],
        "asked": table.asked,
    }
    return json.dumps(whole, indent=1, allow_nan=False) + "\n"


def to_csv(table: Table) -> str:
    """The rows; an empty field is a figure that does not exist."""
    columns = list(dict.fromkeys(name for row in table.rows for name in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in table.rows:
        writer.writerow({k: "" if v is None else rounded(v) for k, v in row.items()})
    return out.getvalue()


SHOWN: tuple[Column, ...] = (
    ("reward", "reward", ".3f"),
    ("judge", "judge", ".3f"),
    ("kl", "KL", ".2f"),
    ("kl_token", "KL/token", ".3f"),
    ("diversity", "diversity", ".2f"),
    ("length", "tokens", ".1f"),
    ("eos", "ended", ".0%"),
    ("base_tokens", "base/token", ".2f"),
    ("guide_tokens", "guide/token", ".2f"),
    ("flops", "FLOPs", ".2f"),
    ("reward_gain", "gain", "+.3f"),
    ("reward_holm", "p (Holm)", ".2g"),
)
"""Columns that people read: name, heading, format."""


def columns_of(table: Table) -> list[Column]:
    """The columns that people read of a table: `SHOWN`, and those that were asked for."""
    usual = {name for name, _, _ in SHOWN}
    return [*SHOWN, *(column for column in table.asked if column[0] not in usual)]


def cells_of(row: Row, columns: Sequence[Column] = SHOWN) -> list[str]:
    """A row as people read it; a mean stands with its standard error."""
    guide = row["guide"]
    shown = [title(str(row["method"]), None if guide is None else str(guide))]
    for name, _, form in columns:
        value, se = row.get(name), row.get(f"{name}_se")
        text = "" if value is None else _format(value, form)
        shown.append(text + (f" ± {_format(se, form)}" if text and se is not None else ""))
    return shown


def _format(value: Value, form: str) -> str:
    text = format(value, form)
    return text.removeprefix("-") if float(text.rstrip("%")) == 0 else text


def headings(rows: Sequence[Row], columns: Sequence[Column] = SHOWN) -> list[str]:
    """Of the columns that `shown_rows` keeps."""
    return ["method", *(h for name, h, _ in columns if any(r.get(name) is not None for r in rows))]


def shown_rows(rows: Sequence[Row], columns: Sequence[Column] = SHOWN) -> list[list[str]]:
    """Rows as people read them, without columns that are empty throughout."""
    kept = [0] + [
        i
        for i, (name, _, _) in enumerate(columns, start=1)
        if any(row.get(name) is not None for row in rows)
    ]
    return [[cells[i] for i in kept] for cells in (cells_of(row, columns) for row in rows)]


def to_markdown(table: Table) -> str:
    """A heading line, a table, and what its columns say."""
    a, columns = table.about, columns_of(table)
    lines = [
        f"{a['task']} ({a['split']}), {a['model']}, seed {a['seed']}: "
        f"{_counts(table.rows)}, reward {a['reward']}"
        + (f", judge {a['judge']}" if "judge" in a else ""),
        "",
        *_grid(headings(table.rows, columns), shown_rows(table.rows, columns)),
        "",
        f"± standard error over prompts. Gain and p: against {a['baseline']}, paired by prompt.",
    ]
    return "\n".join(lines) + "\n"


def _counts(rows: Sequence[Mapping[str, Value]]) -> str:
    return f"{rows[0]['prompts']} prompts"


def _grid(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(fields: Sequence[str]) -> str:
        return "| " + " | ".join(field.replace("|", "\\|") for field in fields) + " |"

    rule = "|---|" + "---:|" * (len(head) - 1)
    return [line(head), rule, *(line(row) for row in rows)]
