"""What is decoded, named by content: a condition, and the batches that it is made of.

A **condition** is one method with one guide on some prompts: what `collect` keeps, a row of the
table of `evaluate`. A **batch** is a fixed group of its prompts, decoded together. A batch's key is
the hash of everything that its texts depend on, so a finished batch is never decoded again, whoever
asks: another run, another process, another condition. Because the group is fixed, a batch that was
interrupted and decoded anew has the same bytes (on the same machine and number of threads).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import cached_property
from typing import Annotated, Any, TypedDict

from trimtab import version
from trimtab.decoding.methods import METHODS, Method, Stochastic
from trimtab.errors import UsageError
from trimtab.runs.fingerprint import Fingerprint, fingerprint, importable
from trimtab.runs.identity import ModelId, canonical, digest
from trimtab.runs.record import FORMAT, Count, FileName, Row
from trimtab.runs.resolve import GuideSource
from trimtab.schema import schema_of, whole
from trimtab.types import Prompt, Sample, Samples, Vocabulary

# --- methods as data -----------------------------------------------------------------------------


def describe(part: object, unknown: list[str] | None = None) -> Any:
    """A part of a method as plain JSON types.

    Our own functions are known by name, our own dataclasses by kind and fields; any other part is
    described by its fingerprint too. `unknown` takes, in words, what cannot be looked into.
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
    print_ = fingerprint(part)
    if print_.unknown and unknown is not None:
        unknown.append(f"{values['kind']}: {print_.unknown}")
    return values | {"fingerprint": print_.value}


def label(method: Method) -> str:
    """A method in one line: its name, its strength, and what departs from the name's defaults.

    >>> from trimtab.decoding.methods import args, greedy, vas
    >>> label(greedy()), label(args(beta=2)), label(vas(beta=0.5, k=10))
    ('greedy', 'args(beta=2)', 'vas(beta=0.5, k=10)')
    """
    usual = METHODS[method.name]() if method.name in METHODS else method
    settings = {"beta": f"{method.beta:g}"} if method.guided and method.beta else {}
    for mine, theirs in ((method.proposal, usual.proposal), (method.sampler, usual.sampler)):
        defaults = asdict(theirs) if is_dataclass(theirs) and not isinstance(theirs, type) else {}
        values = asdict(mine) if is_dataclass(mine) and not isinstance(mine, type) else {}
        alike = type(mine) is type(theirs)
        settings |= {k: f"{v}" for k, v in values.items() if not alike or defaults.get(k) != v}
        if not alike and not values:
            settings[type(mine).__name__.lower()] = "yes"
    inside = ", ".join(f"{k}={v}" for k, v in settings.items())
    return f"{method.name}({inside})" if inside else method.name


_BEST = re.compile(r"best-of-n(?:\(n=(\d+)\))?")


def title(label: str, guide: str | None, *, named: bool = True) -> str:
    """A condition as people read it: its label, and what guides it.

    Best-of-n says who picks: the guide, where the method ran; the reward, where it is computed
    from the base's own samples. A guide's name may be left out.

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


# --- prompts -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """What one group answers: a prompt, encoded for the base.

    No text depends on the sample, so it is no part of a batch's key; scores do, so theirs keep its
    fingerprint.
    """

    id: str  # pairs it across conditions
    prompt: Prompt
    sample: Sample  # what rewards see, with all that the task knows of it
    prefix: tuple[int, ...] = ()  # ids that open every response
    room: int | None = None  # most tokens of a response after the prefix; None: the condition's

    @classmethod
    def of(cls, prompt: Prompt, sample: Sample) -> Item:
        """A prompt under the hash of its ids and text."""
        return cls(digest([list(prompt.ids), prompt.text])[:12], prompt, sample)

    @classmethod
    def of_row(cls, row: Row) -> Item:
        """The item that a row of a record answers."""
        sample = sample_of(row.group.prompt, row.group.topic, row.meta)
        return cls(row.id, row.group.prompt, sample, row.group.prefix)

    @property
    def read(self) -> Prompt:
        """What the base reads before it goes on."""
        if not self.prefix:
            return self.prompt
        return Prompt(self.prompt.ids + self.prefix, self.prompt.text, self.prompt.messages)

    @cached_property
    def seen(self) -> Fingerprint:
        """Of what rewards see beside the prompt and a text: topic, references."""
        return fingerprint([self.sample.topic, dict(sorted(self.sample.meta.items()))])

    def as_dict(self) -> dict[str, Any]:
        """What texts depend on, as plain JSON types."""
        messages = [dict(m) for m in self.prompt.messages] if self.prompt.messages else None
        plain = {
            "id": self.id,
            "text": self.prompt.text,
            "messages": messages,
            "ids": list(self.prompt.ids),
        }
        halved = {"prefix": list(self.prefix), "room": self.room}
        return plain | (halved if self.prefix or self.room else {})


def sample_of(prompt: Prompt, topic: str, meta: Mapping[str, Any]) -> Sample:
    """What rewards see of a prompt: its text, or the conversation where it is more than a text.

    It is made from what a record holds, so that a reward that is added later sees the same.
    """
    turns: Sequence[Mapping[str, str]] = prompt.messages or ()
    plain = prompt.text is not None and (
        not turns or (len(turns) == 1 and turns[0].get("role") == "user")
    )
    asked = prompt.text if plain else tuple(turns)
    return Sample(asked or "", topic, as_json(meta))


def as_json(meta: Mapping[str, Any]) -> Any:
    """What of a sample's `meta` comes back from a record; things of other types become text."""
    return json.loads(json.dumps(meta, default=str, sort_keys=True))


# --- batches and conditions ----------------------------------------------------------------------


@dataclass(frozen=True)
class Policy:
    """What answers prompts, and how often: all that texts depend on but the prompts."""

    model: ModelId
    method: Method
    guide: GuideSource | None = None
    n: int = 1  # responses per prompt; 1 where all would be the same
    seed: int = 0  # with the prompt and the sample's number, decides every draw
    max_new_tokens: int = 128

    def __post_init__(self) -> None:
        if self.n < 1:
            raise UsageError("n must be at least 1", got=f"{self.n}", do="raise it")

    @cached_property
    def described(self) -> Mapping[str, Any]:
        """The method as plain JSON types, see `describe`."""
        described: Mapping[str, Any] = describe(self.method)
        return described

    @cached_property
    def unknown(self) -> tuple[str, ...]:
        """In words, what of the method cannot be looked into: its texts are decoded anew."""
        unknown: list[str] = []
        describe(self.method, unknown)
        return tuple(unknown)

    def key(self, items: Sequence[Item]) -> str:
        """Hash of all that the texts of a batch depend on."""
        return digest(
            {
                "format": FORMAT,
                "trimtab": version.__version__,
                "model": self.model.identity(),
                "method": self.described,
                "guide": self.guide.fingerprint if self.guide else None,
                "n": self.n,
                "seed": self.seed,
                "max_new_tokens": self.max_new_tokens,
                "prompts": [item.as_dict() for item in items],
            }
        )


@dataclass(frozen=True)
class Batch:
    """Prompts that are decoded together and published together."""

    key: str  # hash of all that its texts depend on; the name of its files
    items: tuple[Item, ...]
    responses: int  # how many there are, or will be, to all of them
    policy: Policy | None = None  # None where the texts are there and nothing is decoded

    @property
    def longest(self) -> tuple[int, int]:
        """Most tokens that may be written, and most that are read before: what costs memory."""
        rooms = [item.room or 0 for item in self.items]
        return max(rooms, default=0), max((len(i.read.ids) for i in self.items), default=0)


@dataclass(frozen=True)
class Condition:
    """One policy on the prompts of one split."""

    task: str  # its name, or where the prompts came from
    split: str  # "" where there are none others
    policy: Policy
    items: tuple[Item, ...]
    rows: int = 32  # most that are decoded side by side; another number is other batches
    shape: Mapping[str, Any] | None = None  # what a token costs that the base reads, if counted
    guide_shape: Mapping[str, Any] | None = None  # the same of the guide

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise UsageError("rows must be at least 1", got=f"{self.rows}", do="raise it")

    @cached_property
    def batches(self) -> tuple[Batch, ...]:
        """Its work, in the order of the prompts."""
        proposal, n = self.policy.method.proposal, self.policy.n
        draws = proposal.n if isinstance(proposal, Samples) else 1
        size = max(1, self.rows // (n * draws))
        groups = [self.items[i : i + size] for i in range(0, len(self.items), size)]
        return tuple(Batch(self.policy.key(g), g, n * len(g), self.policy) for g in groups)

    @cached_property
    def key(self) -> str:
        """Hash of the split and all of the work."""
        return digest([self.split, [batch.key for batch in self.batches]])

    @property
    def facts(self) -> Facts:
        """What `conditions/<key>.json` says of it."""
        policy, guide = self.policy, self.policy.guide
        prompts = digest([item.as_dict() for item in self.items])
        return Facts(
            key=self.key,
            task=self.task,
            split=self.split,
            label=label(policy.method),
            prompts={"count": len(self.items), "fingerprint": prompts},
            batches=tuple(batch.key for batch in self.batches),
            method=policy.described,
            guide={"name": guide.name, "fingerprint": guide.fingerprint} if guide else None,
            shape=self.shape,
            guide_shape=self.guide_shape,
            plain=plain_sampling(policy.method),
            n=policy.n,
            seed=policy.seed,
            max_new_tokens=policy.max_new_tokens,
        )

    @property
    def about(self) -> dict[str, Any]:
        """What the manifest of a folder says that keeps this condition alone."""
        policy = self.policy
        known = [
            item.as_dict() | {"topic": item.sample.topic, "meta": as_json(item.sample.meta)}
            for item in self.items
        ]
        return {
            "method": policy.described,
            "guide": self.facts.guide,
            "prompts": {
                "source": self.task,
                "count": len(self.items),
                "sha256": hashlib.sha256(canonical(known).encode()).hexdigest(),
            },
            "n": policy.n,
            "seed": policy.seed,
            "max_new_tokens": policy.max_new_tokens,
            "rows": self.rows,
        }


class _Guide(TypedDict):
    name: str
    fingerprint: str


class _Prompts(TypedDict):
    count: Count
    fingerprint: str  # of ids and texts


@dataclass(frozen=True)
class Facts:
    """What a folder says of a condition, whether it is finished or not; see `Condition`."""

    key: str
    task: str
    split: str
    label: str  # the method in one line; "given" for texts that no method wrote
    prompts: Annotated[Mapping[str, Any], schema_of(_Prompts)]
    batches: Annotated[Sequence[str], schema_of(list[FileName])]  # keys, in the prompts' order
    method: Mapping[str, Any] | None = None  # see `describe`; None for texts that were given
    guide: Annotated[Mapping[str, str], schema_of(_Guide)] | None = None
    shape: Mapping[str, Any] | None = None
    guide_shape: Mapping[str, Any] | None = None
    plain: bool = False  # whether the texts are the base's own samples
    n: Annotated[int, whole(1)] | None = None  # responses per prompt; None where it differs
    seed: Annotated[int, whole(-(2**63), 2**63)] | None = None  # one seed is paired by prompt
    max_new_tokens: Annotated[int, whole(1)] | None = None

    @property
    def title(self) -> str:
        """What people call it, such as "vas(beta=2) by mine"; see `title`."""
        return title(self.label, self.guide["name"] if self.guide else None)

    @property
    def names(self) -> set[str]:
        """All that it may be asked for by."""
        names = {self.title, self.label}
        return {self.key, *names, *(f"{name}/{self.split}" for name in names)}

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {**vars(self), "batches": list(self.batches)}
