"""Rows of preferences, in the formats of TRL, as groups of two."""

from __future__ import annotations

from pathlib import Path

from trimtab.errors import DataError
from trimtab.tasks.files import Row
from trimtab.training.preferences.dropped import Dropped, some
from trimtab.training.preferences.encoding import Base, group_of, reads_chat
from trimtab.training.preferences.formats import format_of, preference, uniform
from trimtab.training.preferences.sources import Source, preference_rows
from trimtab.types import Group


def read_preferences(source: Source, lm: Base) -> tuple[tuple[Group, ...], Dropped]:
    """Preferences, encoded for the base that will be guided.

    A row has `chosen` and `rejected`, and may have a `prompt`; all are texts, or all messages.
    Without a prompt, texts are split after the last "Assistant:" of a transcript, else after the
    words that both begin with, and conversations before their last message. Rows of one source are
    of one format. A `topic` decides the split; without one, the first thing that the user says.

    The ids of prompt and response are together those of the chat template on the whole
    conversation, up to the EOS that ends the turn. Without a template a response gets the
    tokenizer's EOS.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, .parquet), `hub:DATASET[@SPLIT]` (by the
            package `datasets`), or rows in memory.
        lm: the base: its template, its tokenizer, its EOS.

    Returns:
        Groups of two, the chosen response first, with the reward "preference" 1 and 0; and how
        many rows were dropped, which `template` and `prompts` of `Dropped` tell.

    Raises:
        PromptError: a row is malformed, or of another format than the first; the message names it.
        DataError: there are no rows, or none is left.
        UsageError: the source can't be read, or its kind is not known.
        FetchError: the dataset can't be had.
    """
    groups: list[Group] = []
    rows = prompts = 0
    first, chat = "", reads_chat(lm)
    for row in preference_rows(source):
        rows, clear = rows + 1, uniform(row)
        first = _same_format(clear, first)
        found = preference(clear, chat=chat)
        group = None if found is None else group_of(found, lm)
        prompts += found is None
        groups += [] if group is None else [group]
    if not rows:
        name = source if isinstance(source, str | Path) else "the source"
        raise DataError(f"{name} must hold preferences", got="no row", do="check the source")
    dropped = Dropped(len(groups), prompts=prompts, template=rows - prompts - len(groups))
    return some(groups, dropped), dropped


def _same_format(row: Row, first: str) -> str:
    """The format of the first row, which must be this one's."""
    found = format_of(row)
    if first and found != first:
        raise row.error(f"every row must be {first}, as the first is", found)
    return found
