"""Rewards, judges and guides by name and fingerprint, ready to be sent to another process."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from trimtab.errors import public
from trimtab.guides.card import CARD
from trimtab.guides.checkpoint import load_guide
from trimtab.guides.reward import RewardGuide
from trimtab.guides.shipped import check_name, guide_folder
from trimtab.guides.text import TextGuide
from trimtab.protocols import Guide, LanguageModel, Reward
from trimtab.rewards import REWARDS, OfTexts, Sum, find, on_texts, parse, spelled
from trimtab.rewards.classifier import Classifier
from trimtab.rewards.server import Server
from trimtab.runs.fingerprint import Fingerprint, essence
from trimtab.runs.fingerprint import fingerprint as fingerprint_of
from trimtab.runs.identity import digest
from trimtab.types import Sample

LONGEST = 80
"""Characters of a reward's name in the name of its folder."""

# --- rewards and judges --------------------------------------------------------------------------


def name_of(function: Callable[..., object]) -> str:
    """The name that a reward is known by, else a function's own, else its class'."""
    if isinstance(function, partial):
        return name_of(function.func)
    if isinstance(function, OfTexts):
        return name_of(function.function)
    if isinstance(function, Sum):
        return spelled([(weight, short_name(name)) for weight, name in function.terms])
    if isinstance(function, Server):
        return function.place
    if isinstance(function, Classifier):
        return function.short
    for name, place in REWARDS.items():
        module, _, attribute = place.partition(":")
        home = sys.modules.get(f"trimtab.rewards.{module}")
        if home is not None and getattr(home, attribute) is function:
            return name
    return getattr(function, "__name__", None) or type(function).__name__.lower()


def short_name(name: str) -> str:
    """What tables call a reward of that name: without the folders, schemes and secrets of it."""
    found = _resolved(name)
    if isinstance(found, Sum | Server | Classifier):
        return name_of(found)
    return name.rpartition(":")[2]


@cache
def _resolved(name: str) -> Reward:
    return find(name)


@dataclass(frozen=True)
class NamedReward:
    """A reward that is found when it is asked: its name travels where its code cannot.

    Attributes:
        name: as for `trimtab.rewards.find`.
    """

    name: str

    def __repr__(self) -> str:
        """Its name, without secrets of a URL."""
        return f"NamedReward({public(self.name)!r})"

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> Sequence[float]:
        """The scores of the reward of that name."""
        return _resolved(self.name)(samples, responses)


@essence.register
def _named(reward: NamedReward) -> object:
    return _resolved(reward.name)


@dataclass(frozen=True)
class Scorer:
    """A reward or judge by name.

    Attributes:
        name: what tables call it.
        function: `(samples, responses) -> one score each`.
        fingerprint: tells it from others of that name.
        unknown: what of it cannot be looked into, so that its fingerprint is like no other and it
            is asked anew each time; "" where all can.
    """

    name: str
    function: Reward
    fingerprint: str
    unknown: str = ""

    @classmethod
    def of(cls, function: Reward) -> Scorer:
        """A scorer under its own name."""
        if isinstance(function, NamedReward):
            return cls.named(function.name)
        return cls._known_by(name_of(function), function, fingerprint_of(function))

    @classmethod
    def named(cls, name: str) -> Scorer:
        """A reward by name, as for `trimtab.rewards.find`.

        Raises:
            UnknownNameError: there is none; near names are offered.
        """
        return cls._known_by(short_name(name), NamedReward(name), fingerprint_of(_resolved(name)))

    @classmethod
    def _known_by(cls, name: str, function: Reward, found: Fingerprint) -> Scorer:
        return cls(name, function, found.value, found.unknown)

    @property
    def key(self) -> str:
        """The name of its folder."""
        plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in self.name)
        return f"{plain[:LONGEST]}-{self.fingerprint[:8]}"


ON_PREFIXES = "reward:"
"""Before the name of a reward that is read on prefixes, where a guide has the same name."""


# --- guides --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class GuideSource:
    """A guide that can be opened beside any copy of the base, in this process or another.

    Attributes:
        name: what tables call it.
        fingerprint: tells it from others of that name.
        open: makes the guide for a base.
        unknown: what of it cannot be looked into, so that its fingerprint is like no other and
            texts that it guides are decoded anew each time; "" where all can.
    """

    name: str
    fingerprint: str
    open: Callable[[LanguageModel[Any]], Guide[Any]]
    unknown: str = ""

    @classmethod
    def on_prefixes(cls, scorer: Scorer) -> GuideSource:
        """A reward for finished texts that scores prefixes as if they were finished."""
        found = digest(["prefixes", scorer.fingerprint])
        return cls(scorer.name, found, partial(_on_prefixes, scorer), unknown=scorer.unknown)

    @classmethod
    def ready(cls, guide: Guide[Any], *, fingerprint: str | None = None) -> GuideSource:
        """A guide that is open already.

        Args:
            guide: it.
            fingerprint: tells it from others of its name; None finds out what it is made of.
        """
        found = Fingerprint(fingerprint) if fingerprint else fingerprint_of(guide)
        return cls(guide.name, found.value, partial(_given, guide), found.unknown)

    @classmethod
    def named(cls, name: str, lm: LanguageModel[Any]) -> GuideSource:
        """A guide's folder, the name of a reward to read on prefixes, or a reward model.

        Args:
            name: a folder with `guide.json`, the name of a guide that comes with the package,
                what `trimtab.rewards.find` knows (after `reward:`, where a guide has its name),
                or what `RewardGuide.load` takes.
            lm: the base that it is for.
        """
        if name.startswith(ON_PREFIXES):
            return cls.on_prefixes(Scorer.named(name.removeprefix(ON_PREFIXES)))
        folder = guide_folder(name)
        if folder is not None:
            load_guide(folder, lm=lm)  # checks every file before its sum is believed
            found = digest(["checkpoint", json.loads((folder / CARD).read_text())["sha256"]])
            return cls(Path(name).name, found, partial(_load, name))
        if Path(name).exists() or ("/" in name and not _spells_reward(name)):
            model = RewardGuide.load(name, lm)
            made, open_ = fingerprint_of(model), partial(RewardGuide.load, name)
            return cls(Path(name).name, made.value, open_, made.unknown)
        if name not in REWARDS and not _spells_reward(name):
            check_name(name, REWARDS)
        return cls.on_prefixes(Scorer.named(name))


def _spells_reward(name: str) -> bool:
    kinds = ("python:", "hf:", "http:", "https:")
    return name.startswith(kinds) or parse(name) is not None


def _on_prefixes(scorer: Scorer, lm: LanguageModel[Any]) -> Guide[Any]:
    return TextGuide(on_texts(scorer.function), lm.decode, name=scorer.name)


def _given(guide: Guide[Any], _: LanguageModel[Any]) -> Guide[Any]:
    return guide


def _load(folder: str, lm: LanguageModel[Any]) -> Guide[Any]:
    return load_guide(folder, lm=lm)
