"""What a name means: models, guides, rewards and methods, for the command line, YAML and Python.

    model     a fetched asset ("smollm2"), a folder, an id of the Hub
    reward    one of `trimtab.rewards.REWARDS`, a plugin's, python:FILE.py:FUNCTION, hf:MODEL#LABEL,
              http://HOST/PATH, a sum of such: "sentiment - 0.01*length"
    guide     a folder that `save_guide` wrote, a shipped guide, a plugin's, python:FILE.py:NAME,
              a reward model (folder or ORG/NAME, with #LABEL); or a reward's name, or
              reward:NAME where both have it: the reward is then read on prefixes
    method    one of `trimtab.decoding.methods.METHODS`, a plugin's, python:FILE.py:FUNCTION

`FILE.py:NAME` is short for `python:FILE.py:NAME`. What comes back bears a name and a fingerprint,
and can be sent to another process.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from trimtab.assets import ASSETS, locate
from trimtab.decoding.methods import METHODS, Method
from trimtab.errors import (
    CheckpointError,
    UnknownNameError,
    UsageError,
    check_keywords,
    check_word,
    public,
)
from trimtab.guides import RewardGuide, TextGuide, load_guide, verify
from trimtab.guides.manifest import MANIFEST, check_name, guide_folder
from trimtab.models.transformers import TransformersLM
from trimtab.plugins import PYTHON, entry_points, load_object
from trimtab.protocols import Guide, LanguageModel, Reward
from trimtab.rewards import REWARDS, OfTexts, Sum, as_reward, find, on_texts, parse, spelled
from trimtab.rewards.classifier import Classifier
from trimtab.rewards.server import Server
from trimtab.runs.fingerprint import Fingerprint, essence
from trimtab.runs.fingerprint import fingerprint as fingerprint_of
from trimtab.runs.identity import digest
from trimtab.types import Sample, Template

OpenModel: TypeAlias = Callable[[], LanguageModel[Any]]
"""Opens the base, in this process or another."""

DTYPES = ("auto", "float32", "bfloat16", "float16")

_OWN_CODE = re.compile(r"[^:*]+\.py:\w+")


def with_scheme(name: str) -> str:
    """A name in full: `mine.py:score` becomes `python:mine.py:score`, others stay as they are."""
    return PYTHON + name if _OWN_CODE.fullmatch(name) else name


# --- models --------------------------------------------------------------------------------------


def find_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str = "auto",
    base_temperature: float = 1.0,
    base_top_p: float = 1.0,
    template: Template = "auto",
) -> OpenModel:
    """A function that opens a base; it can be sent to workers. Nothing is loaded before its call.

    Args:
        name: a fetched asset, a folder or an id of the Hub.
        device: "cpu", "cuda", "cuda:1", "mps"; None takes the accelerator where there is one.
        dtype: "auto", "float32", "bfloat16" or "float16".
        base_temperature: as for `TransformersLM`.
        base_top_p: as for `TransformersLM`.
        template: as for `TransformersLM`.

    Raises:
        UnknownNameError: a near miss of an asset's name, or no such dtype.
        NotFetchedError: an asset that is not on this machine yet.
        UsageError: a path where nothing is, or a device that torch cannot use here.
    """
    check_word("template", template, Template)
    known = [asset.name for asset in ASSETS]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    if near and name not in known and "/" not in name and not Path(name).exists():
        raise UnknownNameError("a model", name, known)
    locate(name)
    check_word("a dtype", dtype, DTYPES)
    loading: dict[str, Any] = {"dtype": dtype}
    if device is not None:
        loading["device"] = _device(device)
    return partial(
        TransformersLM,
        name,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
        template=template,
        **loading,
    )


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            "a device must be one that torch can use here",
            got=f"{name!r}",
            do="use cpu, or cuda where there is one",
        ) from error


# --- rewards and judges --------------------------------------------------------------------------


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

    @property
    def key(self) -> str:
        """The name of its folder."""
        return folder_name(self.name, self.fingerprint)


def folder_name(name: str, fingerprint: str) -> str:
    """Of a reward's scores."""
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return f"{plain[:80]}-{fingerprint[:8]}"


def find_reward(given: str | Reward | Scorer) -> Scorer:
    """A reward with its name and fingerprint.

    Args:
        given: a name (see above), or a reward: `(samples, responses) -> one score each`.

    Raises:
        UnknownNameError: there is none of that name; near names are offered.
    """
    if isinstance(given, Scorer):
        return given
    if isinstance(given, NamedReward):
        given = given.name
    if isinstance(given, str):
        name = with_scheme(given)
        made = fingerprint_of(_loaded_reward(name))
        return Scorer(short_name(name), NamedReward(name), made.value, made.unknown)
    made = fingerprint_of(given)
    return Scorer(name_of(given), given, made.value, made.unknown)


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
    """What tables call a reward of that name: without its folders, schemes and secrets."""
    loaded = _loaded_reward(name)
    if isinstance(loaded, Sum | Server | Classifier):
        return name_of(loaded)
    return name.rpartition(":")[2]


@cache
def _loaded_reward(name: str) -> Reward:
    return find(name)


@dataclass(frozen=True)
class NamedReward:
    """A reward that is found when it is asked: its name travels where its code cannot."""

    name: str

    def __repr__(self) -> str:
        """Its name, without secrets of a URL."""
        return f"NamedReward({public(self.name)!r})"

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> Sequence[float]:
        """The scores of the reward of that name."""
        return _loaded_reward(self.name)(samples, responses)


@essence.register
def _named_reward(named: NamedReward) -> object:
    return _loaded_reward(named.name)


# --- guides --------------------------------------------------------------------------------------

ON_PREFIXES = "reward:"
"""Before the name of a reward that is read on prefixes, where a guide has the same name."""


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
        made = digest(["prefixes", scorer.fingerprint])
        return cls(scorer.name, made, partial(_on_prefixes, scorer), scorer.unknown)

    @classmethod
    def ready(cls, guide: Guide[Any], *, fingerprint: str | None = None) -> GuideSource:
        """A guide that is open already; no fingerprint finds out what it is made of."""
        made = Fingerprint(fingerprint) if fingerprint else fingerprint_of(guide)
        return cls(guide.name, made.value, partial(_given, guide), made.unknown)


GuideKind: TypeAlias = Literal["folder", "reward", "plugin", "model"]


def guide_kind(name: str) -> GuideKind:
    """What a guide's name means; nothing is loaded, and the Hub is not asked.

    That is "folder" (a guide's own or a shipped one), "reward" (read on prefixes), "plugin" (of an
    installed package, or `python:`) or "model" (a reward model of transformers).
    """
    name = with_scheme(name)
    if name.startswith(ON_PREFIXES):
        find(with_scheme(name.removeprefix(ON_PREFIXES)))
        return "reward"
    if guide_folder(name) is not None:
        return "folder"
    if name in entry_points("trimtab.guides"):
        return "plugin"
    if name.startswith(PYTHON) and parse(name) is None:
        return "reward" if _takes_two_lists(load_object(name, "a guide")) else "plugin"
    if name.startswith(("hf:", "http:", "https:")) or parse(name) is not None:
        find(name)
        return "reward"
    rewards = {*REWARDS, *entry_points("trimtab.rewards")}
    if name in rewards and not Path(name).exists():
        return "reward"
    check_name(name, {*rewards, *entry_points("trimtab.guides")})
    folder = Path(locate(name.partition("#")[0]))
    if folder.is_dir() and not (folder / "config.json").is_file():
        raise CheckpointError(
            "a guide must be a folder with guide.json, or a model's with config.json",
            got=f"{folder} with neither",
            do="check the path",
        )
    return "model"


def find_guide(
    given: str | Path | Guide[Any] | Scorer | GuideSource | Reward, lm: LanguageModel[Any]
) -> GuideSource:
    """A guide with its name and fingerprint.

    Args:
        given: a name (see above), a guide, or a reward or `Scorer` to read on prefixes.
        lm: the base that it is for.

    Raises:
        UnknownNameError: there is no such guide or reward; near names are offered.
        CheckpointError: a guide's folder that is not whole, not ours or not safe.
        FetchError: a reward model that could not be had.
    """
    if isinstance(given, GuideSource):
        return given
    if isinstance(given, Guide):
        return GuideSource.ready(given)
    if not isinstance(given, str | Path):
        return GuideSource.on_prefixes(find_reward(given))
    name = with_scheme(str(given))
    kind = guide_kind(name)
    if kind == "reward":
        return GuideSource.on_prefixes(find_reward(name.removeprefix(ON_PREFIXES)))
    if kind == "folder":
        folder = guide_folder(name) or Path(name)
        verify(folder)  # every file, before the manifest's sum of them is believed
        digested = digest(["checkpoint", json.loads((folder / MANIFEST).read_text())["sha256"]])
        return GuideSource(Path(name).name, digested, partial(_load, name))
    if kind == "plugin":
        guide = _open_plugin(name, lm)
        made = fingerprint_of(guide)
        return GuideSource(guide.name, made.value, partial(_open_plugin, name), made.unknown)
    opener = ReusedGuide(partial(RewardGuide.load, name), lm)
    made = fingerprint_of(opener(lm))
    return GuideSource(Path(name).name, made.value, opener, made.unknown)


class ReusedGuide:
    """Opens a guide once for one base, and anew for others: reward models are large."""

    def __init__(
        self, load: Callable[[LanguageModel[Any]], Guide[Any]], lm: LanguageModel[Any]
    ) -> None:
        self.load, self.lm, self.guide = load, lm, load(lm)

    def __call__(self, lm: LanguageModel[Any]) -> Guide[Any]:
        """The guide for a base."""
        return self.guide if lm is self.lm else self.load(lm)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial, (self.load,)


def _takes_two_lists(thing: object) -> bool:
    """Whether an object of the user's is a reward: what makes a guide takes the base alone."""
    if isinstance(thing, Guide) or not callable(thing):
        return False
    try:
        inspect.signature(thing).bind(None)
    except (TypeError, ValueError):
        as_reward(thing)  # says what it must be
        return True
    return False


def _open_plugin(name: str, lm: LanguageModel[Any]) -> Guide[Any]:
    """The guide that a package or a file of the user's offers, or makes of a base."""
    plugin = entry_points("trimtab.guides").get(name)
    made = load_object(name, "a guide") if plugin is None else plugin.load()
    must = f"{name} must be a guide, a function of the base that returns one, or a reward"
    do = "a reward is called with two lists, (prompts, responses)"
    if not isinstance(made, Guide) and callable(made):
        try:
            made = made(lm)
        except Exception as error:  # a user's code raises what it likes
            raise UsageError(must, got=f"{type(error).__name__}: {error}", do=do) from error
    if not isinstance(made, Guide):
        raise UsageError(must, got=type(made).__name__, do=do)
    return made


def _on_prefixes(scorer: Scorer, lm: LanguageModel[Any]) -> Guide[Any]:
    return TextGuide(on_texts(scorer.function), lm.decode, name=scorer.name)


def _given(guide: Guide[Any], _: LanguageModel[Any]) -> Guide[Any]:
    return guide


def _load(folder: str, lm: LanguageModel[Any]) -> Guide[Any]:
    return load_guide(folder, lm=lm)


# --- methods -------------------------------------------------------------------------------------


def find_method(name: str, **parameters: object) -> Method:
    """A method by name with some of its parameters, as in `find_method("vas", beta=2.0, k=10)`.

    Raises:
        UnknownNameError: no such method, or no such parameter of it; near names are offered.
        UsageError: a parameter of a wrong type.
    """
    make = _method_maker(name)
    check_keywords(name, parameters, inspect.signature(make).parameters)
    try:
        made = make(**parameters)
    except TypeError as error:  # k="many"
        raise UsageError(
            f"the parameters of {name} must have the right types",
            got=", ".join(f"{k} = {v!r}" for k, v in parameters.items()),
            do="`trimtab methods` shows its defaults",
        ) from error
    if not isinstance(made, Method):
        raise UsageError(
            f"{name} must return a Method", got=type(made).__name__, do="see trimtab.Method"
        )
    return made


def find_methods(names: Sequence[str], parameters: Mapping[str, Sequence[object]]) -> list[Method]:
    """Every method with every combination of those parameters that it takes.

    >>> [m.beta for m in find_methods(["greedy", "args"], {"beta": [1.0, 2.0], "k": [4]})]
    [0.0, 1.0, 2.0]

    Raises:
        UnknownNameError: no such method, or a parameter that none of them takes.
    """
    made, takes = list[Method](), set[str]()
    for name in names:
        known = inspect.signature(_method_maker(name)).parameters
        axes = {p: values for p, values in parameters.items() if p in known and values}
        takes.update(known)
        for point in product(*axes.values()):
            made.append(find_method(name, **dict(zip(axes, point, strict=True))))
    for name, values in parameters.items():
        if values and name not in takes:
            raise UnknownNameError(f"a parameter of {', '.join(names)}", name, takes)
    return made


def _method_maker(name: str) -> Callable[..., object]:
    name = with_scheme(name)
    if name in METHODS:
        return METHODS[name]
    if name.startswith(PYTHON):
        own: Callable[..., object] = load_object(name, "a method")
        return own
    plugins = entry_points("trimtab.methods")
    if name not in plugins:
        raise UnknownNameError("a method", name, {*METHODS, *plugins})
    loaded: Callable[..., object] = plugins[name].load()
    return loaded
