"""Completions on disk: plain JSON, steps in columns, one completion per line.

    {"key": ..., "items": [{"id", "text", "messages", "ids"}, ...], "completions": [
    {"item": 0, "sample": 0, "text": ..., "finish": "eos",
     "steps": {"tokens": [[5], ...], "text": [...], "score": [...], "kl": [...], ...}},
    ...]}

`item` is an index into `items`. Every list of `steps` has one entry per turn of the loop; the
response's tokens and its KL are their concatenation and their sum. Numbers have nine significant
digits, which hold a float32 exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trimtab.evaluation.cells import Item, Unit
from trimtab.runs.identity import canonical
from trimtab.types import Completion, Step

COLUMNS = (
    "text",
    "logprob",
    "ref_logprob",
    "score",
    "kl",
    "base_tokens",
    "guide_tokens",
    "failed",
)
"""Fields of a `Step` that are kept, beside its tokens. Alternatives are not."""


@dataclass(frozen=True)
class Record:
    """A finished unit as it was read back.

    Attributes:
        items: its prompts.
        completions: prompt-major.
    """

    items: tuple[Item, ...]
    completions: tuple[Completion, ...]

    @property
    def ids(self) -> list[str]:
        """The prompt's id of each completion."""
        n = len(self.completions) // len(self.items)
        return [item.id for item in self.items for _ in range(n)]


def dump(unit: Unit, completions: Sequence[Completion]) -> str:
    """A finished unit as text."""
    n = unit.n
    lines = [canonical(_completion(c, i // n)) for i, c in enumerate(completions)]
    head = canonical({"items": [item.as_dict() for item in unit.items], "key": unit.key})
    return f'{head[:-1]},"completions":[\n' + ",\n".join(lines) + "\n]}\n"


def load(data: Mapping[str, Any]) -> Record:
    """The reverse of `dump`, from parsed JSON."""
    items = tuple(Item.from_dict(d) for d in data["items"])
    return Record(items, tuple(_read(c, items) for c in data["completions"]))


def _completion(c: Completion, item: int) -> dict[str, Any]:
    columns: dict[str, list[Any]] = {
        name: [_short(getattr(step, name)) for step in c.steps] for name in COLUMNS
    }
    columns["tokens"] = [list(step.tokens) for step in c.steps]
    return {
        "item": item,
        "sample": c.sample,
        "text": c.text,
        "finish": c.finish,
        "steps": columns,
    }


def _short(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def _read(d: Mapping[str, Any], items: Sequence[Item]) -> Completion:
    columns = d["steps"]
    last = len(columns["tokens"]) - 1
    steps = tuple(
        Step(
            row=0,
            tokens=tuple(tokens),
            alternatives=(),
            finish=d["finish"] if i == last else None,
            **{name: columns[name][i] for name in COLUMNS},
        )
        for i, tokens in enumerate(columns["tokens"])
    )
    return Completion(
        prompt=items[d["item"]].prompt,
        sample=d["sample"],
        text=d["text"],
        tokens=tuple(token for step in steps for token in step.tokens),
        finish=d["finish"],
        steps=steps,
    )
