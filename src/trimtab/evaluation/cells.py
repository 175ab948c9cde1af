"""What is measured, named by content: a cell, and the units of work that it is made of.

A **cell** is one method with one guide on the prompts of one split: a row of the table. A **unit**
is a fixed batch of its prompts, decoded together. A unit's key is the hash of everything that its
texts depend on, so a finished unit is never decoded again, whoever asks: another run, another
process, another cell. Because the batch is fixed, a unit that was interrupted and decoded anew has
the same bytes (on the same machine and number of threads).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Any

import trimtab
from trimtab.decoding.methods import METHODS, Method
from trimtab.decoding.samplers import Stochastic
from trimtab.evaluation.cost import Shape
from trimtab.runs.fingerprint import Fingerprint, fingerprint, importable
from trimtab.runs.identity import ModelId, digest
from trimtab.runs.resolve import GuideSource
from trimtab.types import Prompt, Sample, Samples, Vocabulary

FORMAT = 1
"""Of the results; raised when what a unit holds, or how it is computed, changes."""


@dataclass(frozen=True)
class Item:
    """A prompt of a task, encoded for the base.

    Attributes:
        id: what pairs it across methods.
        prompt: what is asked.
        sample: what rewards see, with all that the task knows of it. No text depends on it, so it
            is no part of a unit's key or file; scores do, so theirs have its fingerprint.
    """

    id: str
    prompt: Prompt
    sample: Sample

    @property
    def text(self) -> str:
        """What reports show of it."""
        return self.prompt.text or ""

    @cached_property
    def known(self) -> Fingerprint:
        """Of what rewards see beside the prompt and a text: topic, references."""
        return fingerprint([self.sample.topic, dict(sorted(self.sample.meta.items()))])

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        messages = [dict(m) for m in self.prompt.messages] if self.prompt.messages else None
        return {
            "id": self.id,
            "text": self.prompt.text,
            "messages": messages,
            "ids": list(self.prompt.ids),
        }

    @classmethod
    def from_dict(cls, d: Mapping[str, Any]) -> Item:
        """The reverse of `as_dict`; what else the task knew of the sample is not kept."""
        messages = tuple(d["messages"]) if d["messages"] else None
        sample = Sample(messages or d["text"] or "", d["text"] or "")
        return cls(d["id"], Prompt(tuple(d["ids"]), d["text"], messages), sample)


# --- methods as data -----------------------------------------------------------------------------


def describe(part: object, unknown: list[str] | None = None) -> Any:
    """A part of a method as plain JSON types.

    Our own functions are known by name, our own dataclasses by kind and fields; any other part is
    described by its fingerprint too.

    Args:
        part: a method, a proposal, a rule, a sampler, a number.
        unknown: takes, in words, what cannot be looked into.
    """
    if part is None or isinstance(part, bool | int | float | str):
        return part
    ours = (getattr(part, "__module__", None) or "").partition(".")[0] == "trimtab"
    values: dict[str, Any] = {"kind": type(part).__name__}
    if is_dataclass(part) and not isinstance(part, type):
        values |= {f.name: describe(getattr(part, f.name), unknown) for f in fields(part)}
        if ours:
            return values
    elif hasattr(part, "__qualname__"):
        values["kind"] = name = f"{part.__module__}.{part.__qualname__}"
        if ours and importable(part):
            return name
    found = fingerprint(part)
    if found.unknown and unknown is not None:
        unknown.append(f"{values['kind']}: {found.unknown}")
    return values | {"fingerprint": found.value}


def label(method: Method) -> str:
    """A method in one line: its name, its strength, and what departs from the name's defaults.

    >>> from trimtab.decoding.methods import args, greedy, vas
    >>> label(greedy()), label(args(beta=2)), label(vas(beta=0.5, k=10))
    ('greedy', 'args(beta=2)', 'vas(beta=0.5, k=10)')
    """
    usual = METHODS[method.name]() if method.name in METHODS else method
    said = {"beta": f"{method.beta:g}"} if method.guided and method.beta else {}
    for mine, theirs in ((method.proposal, usual.proposal), (method.sampler, usual.sampler)):
        plain = asdict(theirs) if is_dataclass(theirs) and not isinstance(theirs, type) else {}
        values = asdict(mine) if is_dataclass(mine) and not isinstance(mine, type) else {}
        alike = type(mine) is type(theirs)
        said |= {k: f"{v}" for k, v in values.items() if not alike or plain.get(k) != v}
        if not alike and not values:
            said[type(mine).__name__.lower()] = "yes"
    inside = ", ".join(f"{k}={v}" for k, v in said.items())
    return f"{method.name}({inside})" if inside else method.name


_BEST = re.compile(r"best-of-n(?:\(n=(\d+)\))?")


def title(label: str, guide: str | None, *, named: bool = True) -> str:
    """A row as people read it: its label, and what guides it.

    Best-of-n says who picks: the guide, where the method ran; the reward, where it is computed
    from the base's own samples.

    Args:
        label: of the method.
        guide: its name; None where there is none.
        named: whether a guide's name is shown; best-of-n says in any case that it is a guide.

    >>> title("vas(beta=2)", "mine"), title("best-of-n(n=4)", "mine"), title("sampling", None)
    ('vas(beta=2) by mine', 'best-of-4 by the guide mine', 'sampling')
    >>> title("best-of-n", "mine", named=False)
    'best-of-8 by the guide'
    """
    if guide is None:
        return label
    picked = _BEST.fullmatch(label)
    if picked is not None:
        n = picked[1] or METHODS["best-of-n"]().proposal.n  # type: ignore[union-attr]
        return f"best-of-{n} by the guide" + (f" {guide}" if named else "")
    return f"{label} by {guide}" if named else label


def deterministic(method: Method) -> bool:
    """Whether all samples of a prompt would be the same text."""
    return method.sampler.greedy and not isinstance(method.proposal, Samples)


def plain_sampling(method: Method) -> bool:
    """Whether its texts are the base's own samples."""
    unchanged = isinstance(method.sampler, Stochastic) and method.sampler.plain
    return not method.guided and isinstance(method.proposal, Vocabulary) and unchanged


# --- cells and units -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Unit:
    """Prompts that are decoded together by one method.

    Attributes:
        model: the base policy.
        method: the decoding method.
        guide: what it is guided by; None where it needs none.
        n: responses per prompt.
        seed: decides every draw.
        max_new_tokens: token budget of a response.
        items: the prompts.
        described: the method as plain JSON types, see `describe`.
    """

    model: ModelId
    method: Method
    guide: GuideSource | None
    n: int
    seed: int
    max_new_tokens: int
    items: tuple[Item, ...]
    described: Mapping[str, Any]

    @cached_property
    def key(self) -> str:
        """Hash of all that the texts depend on."""
        return digest(
            {
                "format": FORMAT,
                "trimtab": trimtab.__version__,
                "model": self.model.identity(),
                "method": self.described,
                "guide": self.guide.fingerprint if self.guide else None,
                "n": self.n,
                "seed": self.seed,
                "max_new_tokens": self.max_new_tokens,
                "prompts": [item.as_dict() for item in self.items],
            }
        )

    @cached_property
    def samples(self) -> str:
        """Hash of what rewards see beside the prompts and texts: topics, references."""
        return digest([item.known.value for item in self.items])


@dataclass(frozen=True)
class Cell:
    """One method with one guide on the prompts of one split.

    Attributes:
        task: name of the task.
        split: which of its prompts.
        model: the base policy.
        method: the decoding method, with its strength.
        guide: what guides it; None where the method needs none.
        n: responses per prompt; 1 where all would be the same.
        seed: decides every draw; cells of one seed are paired by prompt.
        max_new_tokens: token budget of a response.
        items: the prompts.
        rows: most rows that are decoded side by side.
        shape: what the base costs; None where unknown. No part of the key.
        guide_shape: the same of the guide; None for functions, whose cost is not counted.
    """

    task: str
    split: str
    model: ModelId
    method: Method
    guide: GuideSource | None
    n: int
    seed: int
    max_new_tokens: int
    items: tuple[Item, ...]
    rows: int = 32
    shape: Shape | None = None
    guide_shape: Shape | None = None

    @cached_property
    def _described(self) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        unknown: list[str] = []
        described = describe(self.method, unknown)
        return described, tuple(unknown)

    @property
    def described(self) -> Mapping[str, Any]:
        """The method as plain JSON types, see `describe`."""
        return self._described[0]

    @property
    def unknown(self) -> tuple[str, ...]:
        """In words, what of the method cannot be looked into: its texts are decoded anew."""
        return self._described[1]

    @cached_property
    def units(self) -> tuple[Unit, ...]:
        """Its work, in the order of the prompts."""
        draws = self.method.proposal.n if isinstance(self.method.proposal, Samples) else 1
        size = max(1, self.rows // (self.n * draws))
        return tuple(
            Unit(
                self.model,
                self.method,
                self.guide,
                self.n,
                self.seed,
                self.max_new_tokens,
                self.items[i : i + size],
                self.described,
            )
            for i in range(0, len(self.items), size)
        )

    @cached_property
    def key(self) -> str:
        """Hash of the task, the split and all of the work."""
        return digest([self.task, self.split, [unit.key for unit in self.units]])

    @property
    def label(self) -> str:
        """The method in one line; see `label`."""
        return label(self.method)

    @cached_property
    def prompts(self) -> str:
        """Hash of the prompts' ids and texts: cells that share it can be compared."""
        return digest([item.as_dict() for item in self.items])

    def as_dict(self) -> dict[str, Any]:
        """What `cells/<key>.json` holds."""
        guide = self.guide
        return {
            "key": self.key,
            "task": self.task,
            "split": self.split,
            "label": self.label,
            "method": self.described,
            "guide": guide and {"name": guide.name, "fingerprint": guide.fingerprint},
            "shape": asdict(self.shape) if self.shape else None,
            "guide_shape": asdict(self.guide_shape) if self.guide_shape else None,
            "n": self.n,
            "seed": self.seed,
            "max_new_tokens": self.max_new_tokens,
            "prompts": {"count": len(self.items), "fingerprint": self.prompts},
            "units": [unit.key for unit in self.units],
        }
