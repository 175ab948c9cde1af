"""The same prompt answered by several methods, each token with the score of the text so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from trimtab.errors import TrimtabError
from trimtab.evaluation.report.reading import Entry, Sheet
from trimtab.evaluation.report.texts import Texts
from trimtab.evaluation.report.tint import Piece, Scale
from trimtab.rewards import on_texts
from trimtab.runs.resolve import Scorer, find_reward
from trimtab.types import Completion

PROMPTS = 4
"""Prompts that are shown, evenly spaced through the split: nobody picked them."""


@dataclass(frozen=True)
class Answer:
    """One response.

    Attributes:
        method: which method's.
        pieces: its text, step by step.
        scale: shades of its scores; methods with one guide share it.
        scores: its reward, and the judge's score of it, by role.
        kl: nats to the base.
        finish: why it ended.
    """

    method: str
    pieces: tuple[Piece, ...]
    scale: Scale
    scores: tuple[tuple[str, float | None], ...]
    kl: float | None
    finish: str


@dataclass(frozen=True)
class Side:
    """A prompt and its answers.

    Attributes:
        prompt: what was asked.
        answers: the baseline's first.
    """

    prompt: str
    answers: tuple[Answer, ...]


def chosen(sheet: Sheet) -> list[Entry]:
    """The baseline, and of every other method the strength of most reward."""
    best: dict[str, Entry] = {}
    for entry in sheet.entries:
        held = best.get(entry.family)
        if held is None or _reward(entry) > _reward(held):
            best[entry.family] = entry
    base = sheet.baseline
    return [base, *(e for e in best.values() if e.family != base.family)]


def _reward(entry: Entry) -> float:
    value = entry.number("reward")
    return -float("inf") if value is None else value


def side_by_side(sheet: Sheet, texts: Texts, prompts: int = PROMPTS) -> list[Side]:
    """The first response of each chosen method to a few prompts."""
    columns = [_first(entry, sheet, texts) for entry in chosen(sheet)]
    scales = _scales(columns)
    count = len(columns[0])
    shown = sorted({round(i * (count - 1) / max(1, prompts - 1)) for i in range(prompts)})
    return [
        Side(columns[0][i].prompt, tuple(_answer(column[i], scales) for column in columns))
        for i in shown
    ]


@dataclass(frozen=True)
class _First:
    entry: Entry
    prompt: str
    done: Completion
    pieces: tuple[Piece, ...]
    scores: tuple[tuple[str, float | None], ...]


def _first(entry: Entry, sheet: Sheet, texts: Texts) -> list[_First]:
    """The first response to each prompt, with what is known of it."""
    scores = {role: texts.scores(entry, sheet, role) for role in sheet.roles}
    scorer = None if entry.guided else _same_scale(entry, sheet, texts)
    found: list[_First] = []
    at = 0
    for record in texts.records(entry):
        n = len(record.completions) // len(record.items)
        for item, done in zip(record.items, record.completions[::n], strict=True):
            said = tuple((role, known[at] if known else None) for role, known in scores.items())
            pieces = _pieces(done, item.text, entry.guided, scorer)
            found.append(_First(entry, item.text, done, pieces, said))
            at += n
    return found


def _same_scale(entry: Entry, sheet: Sheet, texts: Texts) -> Scorer | None:
    """The reward itself, for texts that no guide scored; None unless it is surely the same one.

    Where methods are guided by the reward on prefixes, the base's texts are shaded alike.
    """
    name, place = str(sheet.about["reward"]), texts.scorer(entry, sheet, "reward")
    if place is None or name not in {e.guide for e in sheet.entries}:
        return None
    try:
        scorer = find_reward(name)
    except TrimtabError:  # a function of the user's, or a model that is not on this machine
        return None
    return scorer if scorer.key == place.name else None


def _pieces(
    done: Completion, prompt: str, guided: bool, scorer: Scorer | None
) -> tuple[Piece, ...]:
    parts = [step.text for step in done.steps]
    scores: Sequence[float | None] = [None] * len(parts)
    if guided:
        scores = [step.score for step in done.steps]
    elif scorer is not None:
        prefixes = list(accumulate(parts))
        scores = list(on_texts(scorer.function)([prompt] * len(prefixes), prefixes))
    return tuple(Piece(text, score) for text, score in zip(parts, scores, strict=True))


def _scales(columns: Sequence[Sequence[_First]]) -> dict[str | None, Scale]:
    """One scale for each guide; the base's texts are on that of the reward, which is None here."""
    known: dict[str | None, list[float]] = {}
    for answer in (answer for column in columns for answer in column):
        scores = [p.score for p in answer.pieces if p.score is not None]
        known.setdefault(answer.entry.guide, []).extend(scores)
    shared = known.pop(None, [])
    scales: dict[str | None, Scale] = {}
    for guide, scores in known.items():
        both = scores + shared
        signed = any(x > 0 for x in both) and any(x < 0 for x in both)
        scales[guide] = Scale.of(both, 0.0 if signed else None, guide or "")
    return scales


def _answer(found: _First, scales: dict[str | None, Scale]) -> Answer:
    entry, done = found.entry, found.done
    first = next(iter(scales.values()), Scale(0.0, 0.0))
    scale = scales.get(entry.guide, first)
    return Answer(entry.name, found.pieces, scale, found.scores, done.kl, done.finish)
