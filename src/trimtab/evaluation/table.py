"""The table of an evaluation: figures for machines, and the same figures as people read them.

A row's columns, in this order (None where a figure does not exist):

    method, guide, split, n, prompts, responses, failed
    reward, reward_se, judge, judge_se      means; SEs are clustered by prompt
    guide_score, guide_score_se             what the guide says of the last step it chose
    kl, kl_se, kl_token, kl_token_se        nats per response and per token, from the ledger; of
                                            best-of-n by the reward, from the base's samples
    perplexity, perplexity_se, diversity, diversity_se, distinct_1, distinct_2, distinct_3,
    rep_2, rep_2_se, rep_3, ..., rep_4_se   of the texts; then what else was asked for, such as
                                            rouge_l and coherence (see `metrics`)
    length, length_se
    eos, length_cut, stop                   shares of finish reasons
    base_tokens, guide_tokens, flops        per emitted token; FLOPs against the base alone
    reward_gain, reward_gain_se, reward_low, reward_high, reward_p, reward_holm
    judge_gain, judge_gain_se, judge_low, judge_high, judge_p, judge_holm
                                            against the baseline: paired bootstrap, Wilcoxon, Holm

Written files are the same, byte for byte, for the same figures: they hold six significant digits,
since the last bits of a sum may depend on the machine.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trimtab.errors import UnknownNameError
from trimtab.evaluation.html import fragment
from trimtab.evaluation.text import Value, is_figure, markdown_field, rounded, with_error
from trimtab.plugins import optional
from trimtab.runs.batches import title

Row: TypeAlias = dict[str, Value]

Column: TypeAlias = tuple[str, str, str]
"""Name, heading and format of a figure that people read."""

READ: tuple[Column, ...] = (
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
"""Columns that people read, of every table."""


# --- tables --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TextTable:
    """A table as people read it, for a terminal, a page, a notebook and Markdown alike.

    Attributes:
        caption: what it shows; "" for nothing.
        head: of its columns; the first names the row.
        rows: of texts.
        note: what its columns mean.
    """

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def to_markdown(self) -> str:
        """The head, a rule and the rows."""
        columns = list(zip(*self.rows, strict=True))[1:]
        rules = ["---:" if any(map(is_figure, column)) else "---" for column in columns]
        rule = "|".join(["", "---", *rules, ""])
        return "\n".join([_line(self.head), rule, *map(_line, self.rows)]) + "\n"

    def _repr_html_(self) -> str:
        return fragment("table", self)


def _line(fields: Sequence[str]) -> str:
    return "| " + " | ".join(markdown_field(field) for field in fields) + " |"


@dataclass(frozen=True)
class Table:
    """Rows of figures, and the curve of best-of-n from the base's own samples.

    Attributes:
        about: task, split, model, scorers, baseline.
        rows: one per condition.
        best_of: reward, judge, metrics and KL of best-of-n for n = 1, 2, 4, ...; empty without
            samples.
        asked: columns of the metrics that were asked for by name, which people want to read.
    """

    about: dict[str, Any]
    rows: tuple[Row, ...]
    best_of: tuple[Row, ...] = ()
    asked: tuple[Column, ...] = ()

    def row(self, method: str, guide: str | None = None) -> Row:
        """The row of a method, by its label.

        Raises:
            UnknownNameError: there is none.
        """
        for row in self.rows:
            if row["method"] == method and guide in (None, row["guide"]):
                return row
        known = {str(row["method"]) for row in self.rows}
        raise UnknownNameError("a method of the table", method, known)

    @property
    def columns(self) -> list[str]:
        """Names of all figures, in order."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def to_json(self) -> str:
        """The whole table: `{"about", "columns", "rows", "best_of", "asked"}`."""
        whole = {
            "about": self.about,
            "columns": self.columns,
            "rows": [{k: rounded(v) for k, v in row.items()} for row in self.rows],
            "best_of": [{k: rounded(v) for k, v in row.items()} for row in self.best_of],
            "asked": self.asked,
        }
        return json.dumps(whole, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_dict(cls, whole: Mapping[str, Any]) -> Table:
        """The table of a parsed JSON file."""
        asked = tuple((name, heading, form) for name, heading, form in whole["asked"])
        return cls(whole["about"], tuple(whole["rows"]), tuple(whole["best_of"]), asked)

    def to_csv(self) -> str:
        """The rows; an empty field is a figure that does not exist."""
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n", restval="")
        writer.writeheader()
        for row in self.rows:
            writer.writerow({k: "" if v is None else rounded(v) for k, v in row.items()})
        return out.getvalue()

    def to_pandas(self) -> Any:
        """The rows as a `pandas.DataFrame`, one column per figure, at full precision.

        Raises:
            UsageError: pandas is not installed.
        """
        return optional("pandas", "eval").DataFrame(list(self.rows), columns=self.columns)

    def readable(self) -> TextTable:
        """What people read of it: means with their errors, without columns that are empty."""
        usual = {name for name, _, _ in READ}
        columns = [*READ, *(column for column in self.asked if column[0] not in usual)]
        columns = [c for c in columns if any(row.get(c[0]) is not None for row in self.rows)]
        rows = [
            (
                title(str(row["method"]), None if row["guide"] is None else str(row["guide"])),
                *(
                    with_error(row.get(name), row.get(f"{name}_se"), form)
                    for name, _, form in columns
                ),
            )
            for row in self.rows
        ]
        a = self.about
        caption = (
            f"{a['task']} ({a['split']}), {a['model']}, seed {a['seed']}: "
            f"{self.rows[0]['prompts']} prompts, reward {a['reward']}"
            + (f", judge {a['judge']}" if "judge" in a else "")
        )
        note = (
            f"± standard error over prompts. Gain and p: against {a['baseline']}, paired by prompt."
        )
        head = ("method", *(heading for _, heading, _ in columns))
        return TextTable(caption, head, tuple(rows), note)

    def to_markdown(self) -> str:
        """A heading line, a table, and what its columns say."""
        table = self.readable()
        return f"{table.caption}\n\n{table.to_markdown()}\n{table.note}\n"

    def _repr_html_(self) -> str:
        return self.readable()._repr_html_()
