"""Responses and scores behind a row of a table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trimtab.evaluation.records import Record, load
from trimtab.evaluation.report.reading import Entry, Sheet, read_json
from trimtab.evaluation.statistics import by_prompt


@dataclass
class Texts:
    """The units and scores of a results folder, each file read once.

    Attributes:
        folder: the results folder.
    """

    folder: Path
    _read: dict[Path, Any] = field(default_factory=dict, repr=False)

    def records(self, entry: Entry) -> list[Record]:
        """The finished units of a row, in the order of its prompts."""
        return [load(self._json(self.folder / "units" / f"{k}.json")) for k in entry.cell["units"]]

    def scores(self, entry: Entry, sheet: Sheet, role: str) -> list[float | None] | None:
        """One score per response, None where scoring failed; None where none were kept."""
        place = self.scorer(entry, sheet, role)
        return None if place is None else self._scores(place, entry)

    def by_prompt(self, entry: Entry, sheet: Sheet, role: str) -> dict[str, list[float]]:
        """Scores of each prompt's responses, without those that failed."""
        ids = [i for record in self.records(entry) for i in record.ids]
        scores = self.scores(entry, sheet, role) or [None] * len(ids)
        pairs = [(i, x) for i, x in zip(ids, scores, strict=True) if x is not None]
        return by_prompt([i for i, _ in pairs], [x for _, x in pairs])

    def seconds_per_token(self, entry: Entry) -> float | None:
        """Wall time of decoding; None where it was not kept."""
        paths = [self.folder / "times" / f"{key}.json" for key in entry.cell["units"]]
        if not all(path.exists() for path in paths):
            return None
        times = [self._json(path) for path in paths]
        tokens = sum(t["tokens"] for t in times)
        return sum(t["seconds"] for t in times) / tokens if tokens else None

    def scorer(self, entry: Entry, sheet: Sheet, role: str) -> Path | None:
        """The folder of the scores that made the table's figure; None where there is no figure."""
        if entry.number(role) is None:
            return None
        place: Path = self.folder / "scores" / sheet.about["scores"][role]
        return place

    def _scores(self, place: Path, entry: Entry) -> list[float | None]:
        files = [self._json(place / f"{key}.json") for key in entry.cell["units"]]
        return [score for file in files for score in file["scores"]]

    def _json(self, path: Path) -> Any:
        if path not in self._read:
            self._read[path] = read_json(path)
        return self._read[path]
