"""Every public callable of the package is tried with words and keywords that are near misses.

Run by `tests/test_doors.py` in a process of its own, where no import hook checks annotations: a
user has none either. Prints what let a word pass.

    python -m tests.doors
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, Unpack, get_args, get_origin, get_type_hints

import trimtab
from tests import toys
from trimtab.errors import UnknownNameError

APART = ("trimtab.cli", "trimtab.__main__")
"""The command line has words of its own, which its parser checks."""

OUTPUTS = (
    "decoding.rows.Trace:finish",
    "evaluation.words.Fact:tone",
    "evaluation.words.Peak:verdict",
    "inspection.audit.Finding:level",
    "runs.worker.Progress:stage",
    "types.records.Completion:finish",
    "types.records.Step:finish",
)
"""Words that the library writes and nobody passes."""

BEHIND = {
    "assets.catalogue.Asset:kind": "written in the catalogue alone",
    "evaluation.experiment.Experiment.conditions:split": "`evaluate` and `sweep`",
    "evaluation.experiment.Options:on_reward_error": "`evaluate` and `sweep`",
    "evaluation.experiment.items_of:split": "`Task.samples`",
    "guides.cached.CachedGuide:attention": "`ValueGuide` and `VocabularyGuide`",
    "guides.manifest.Manifest:attention": "`verify`, which raises CheckpointError",
    "guides.manifest.Manifest:dtype": "`verify`, which raises CheckpointError",
    "guides.manifest.Manifest:implementation": "`verify`, which raises CheckpointError",
    "guides.manifest.Manifest:kind": "`verify`, which raises CheckpointError",
    "guides.manifest.Manifest:storage": "`verify`, which raises CheckpointError",
    "training.network.make_head:kind": "a constant of each objective",
    "training.network.make_network:kind": "a constant of each objective",
    **{
        f"training.objectives.{place}.rescaling:unit": "`TrainConfig`"
        for place in (
            "base.Objective",
            "base.PairObjective",
            "base.RewardObjective",
            "values.LabelObjective",
        )
    },
    "types.records.Ledger.steps:finish": "`Response`",
}
"""Words that come in by another door, which checks them."""

NOTHING = object()
"""Stands for every other argument: a word is checked before anything else is looked at."""


# --- words ---------------------------------------------------------------------------------------


def words() -> dict[str, tuple[Callable[..., Any], str, tuple[str, ...]]]:
    """What to call, the parameter and its closed set, by `place:parameter`."""
    found = {}
    for place, call, function in callables():
        for name, hint in _hints(function).items():
            inner = _fields(hint) if get_origin(hint) is Unpack else {name: hint}
            for parameter, meant in inner.items():
                if name != "return" and (known := _words(meant)):
                    found[f"{place}:{parameter}"] = (call, parameter, known)
    return found


REAL: dict[str, Callable[[str], object]] = {
    "decoding.loop.decode:on_guide_error": lambda word: trimtab.decode(
        tiny(), None, trimtab.greedy(), ["a"], on_guide_error=word
    ),
    "guides.reward.RewardGuide:template": lambda word: trimtab.RewardGuide(
        toys.causal_lm(), toys.tokenizer(), tiny(), way="retokenised", template=word
    ),
    "guides.cached.ValueGuide:attention": lambda word: toys.value_guide(attention=word),
    "guides.cached.VocabularyGuide:attention": lambda word: toys.vocabulary_guide(attention=word),
}
"""Doors that look at other arguments first."""


def passes(
    place: str, call: Callable[..., Any], parameter: str, known: tuple[str, ...]
) -> str | None:
    """What happens with a word that is nearly the longest one; None where it is refused well."""
    right = max(known, key=len)
    taken = inspect.signature(call).parameters.values()
    given = {
        p.name: NOTHING
        for p in taken
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }
    several = next((p.name for p in taken if p.kind is p.VAR_POSITIONAL), None)
    try:
        if place in REAL:
            out = REAL[place](right[:-1])
        elif several == parameter:
            out = call(*given.values(), right[:-1])
        else:
            out = call(**{**given, parameter: right[:-1]})
        if inspect.isgenerator(out):
            next(out)
    except UnknownNameError as error:
        return None if right in error.do else f"{error.do} does not offer {right!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"takes {right[:-1]!r} for {right!r}"


def _words(hint: Any) -> tuple[str, ...]:
    """The strings of a `Literal`, alone or in a union."""
    if get_origin(hint) is Literal:
        return tuple(word for word in get_args(hint) if isinstance(word, str))
    if get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(word for inner in get_args(hint) for word in _words(inner))
    return ()


def _fields(hint: Any) -> Mapping[str, Any]:
    return get_type_hints(get_args(hint)[0])


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    names = _everywhere() | getattr(function, "__globals__", {})
    quoted = {n: alias for n, alias in names.items() if isinstance(alias, str) and n.istitle()}
    names |= {n: _read(alias, names) for n, alias in quoted.items()}
    said: dict[str, Any] = getattr(function, "__annotations__", {})
    return {name: _read(hint, names) for name, hint in said.items()}


def _read(hint: Any, names: dict[str, Any]) -> Any:
    """Annotations are texts, and so are some aliases."""
    return _read(eval(hint, names), names) if isinstance(hint, str) else hint


@cache
def _everywhere() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for module in modules():
        names |= vars(module)
    return names


# --- keywords ------------------------------------------------------------------------------------

OPTIONS: dict[str, tuple[Callable[[], object], str]] = {
    "decoding.loop.decode": (
        lambda: trimtab.decode(tiny(), None, trimtab.greedy(), ["a"], max_new_token=1),
        "max_new_tokens",
    ),
    "decoding.methods.method": (lambda: trimtab.method("vas", betta=1.0), "beta"),
    "evaluation.experiment.evaluate": (
        lambda: home("evaluation.experiment").evaluate(*[NOTHING] * 4, base_sample=2),
        "base_samples",
    ),
    "evaluation.sweep.sweep": (
        lambda: home("evaluation.sweep").sweep(*[NOTHING] * 4, on_reward_eror="skip"),
        "on_reward_error",
    ),
    "runs.resolve.find_method": (
        lambda: home("runs.resolve").find_method("vas", betta=1.0),
        "beta",
    ),
    "steering.steer": (lambda: trimtab.steer("p.txt", "length", laters=2), "layers"),
    "guides.reward.RewardGuide.load": (
        lambda: trimtab.RewardGuide.load("nowhere", tiny(), temlate="none"),
        "template",
    ),
    "guides.cached.VocabularyGuide.from_causal_lm": (
        lambda: trimtab.VocabularyGuide.from_causal_lm(toys.causal_lm(), layer=2),
        "layers",
    ),
    "models.loading.from_pretrained": (
        lambda: home("models.loading").from_pretrained(Loaded, "x", "model", dtpye="float32"),
        "dtype",
    ),
    "models.loading.load_causal_lm": (
        lambda: home("models.loading").load_causal_lm(sys.argv[1], revison="main"),
        "revision",
    ),
    "models.loading.load_network": (
        lambda: home("models.loading").load_network(Loaded, "x", "model", dtpye="float32"),
        "dtype",
    ),
    "models.transformers.TransformersLM": (
        lambda: trimtab.TransformersLM(sys.argv[1], toys.tokenizer(), dtpye="float32"),
        "dtype",
    ),
    "training.config.read_config": (
        lambda: home("training.config").read_config("/dev/null", epoch=2),
        "epochs",
    ),
    "training.objectives.objective": (
        lambda: home("training.objectives").objective("td-lambda", lamda_=0.5),
        "lambda_",
    ),
    "training.run.train": (
        lambda: trimtab.train("td-lambda", "none", "none", epoch=2),
        "epochs",
    ),
}
"""A call with a keyword that is nearly one, and the one that it should offer."""

INNER = {
    "cache.reader.ExpandedReader": "arguments of a network's forward",
    "cache.reader.CachedReader": "arguments of a network's forward",
    "cache.reader.TreeReader": "arguments of a network's forward",
    "cache.slots.StepView.update": "called by transformers",
    "cache.trial.open_reader": "arguments of a network's forward",
    "evaluation.presentation.render": "what a template shows; jinja2 refuses what is missing",
    "guides.cached.Identity": "torch's own module",
    "guides.cached.LogProbabilityHead": "torch's own module",
    **{
        f"training.trainer.Log.on_{event}": "called by transformers"
        for event in ("log", "save", "step_end")
    },
    "training.network.GuideNetwork.load_state_dict": "called by transformers",
    "training.network.GuideNetwork.state_dict": "called by transformers",
    "training.trainer.GuideTrainer.compute_loss": "called by transformers",
    "training.trainer.GuideTrainer.evaluate": "called by transformers",
}
"""Takers of `**keywords` whose callers are no users."""


def home(module: str) -> Any:
    """A module of the package."""
    return importlib.import_module(f"trimtab.{module}")


def tiny() -> Any:
    """The smallest base."""
    return trimtab.TableLM(5)


class Loaded:
    """A class of transformers whose constructor does not know the keyword."""

    @classmethod
    def from_pretrained(cls, name: str) -> Loaded:
        return cls()


def open_ended() -> set[str]:
    """Places of the callables that take `**keywords`."""
    return {
        place
        for place, call, _ in callables()
        for parameter in _parameters(call)
        if parameter.kind is parameter.VAR_KEYWORD
    }


def offers(call: Callable[[], object], right: str) -> str | None:
    """What happens with a keyword that is nearly the right one; None where it is refused well."""
    try:
        call()
    except UnknownNameError as error:
        return None if right in error.do else f"{error.do} does not offer {right!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "runs"


# --- what there is -------------------------------------------------------------------------------


@cache
def modules() -> list[types.ModuleType]:
    """All modules but those apart."""
    names = [found.name for found in pkgutil.walk_packages(trimtab.__path__, "trimtab.")]
    return [importlib.import_module(name) for name in names if not name.startswith(APART)]


def callables() -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    """Place (such as `decoding.loop.decode`), what is called, and what bears its annotations."""
    for module in modules():
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            place = f"{module.__name__.removeprefix('trimtab.')}.{name}"
            if inspect.isfunction(thing):
                yield place, thing, inspect.unwrap(thing)
            elif inspect.isclass(thing) and not _made_by_nobody(thing):
                yield place, thing, thing.__init__
                yield from _methods(place, thing)


def _made_by_nobody(kind: type) -> bool:
    protocol = getattr(kind, "_is_protocol", False)
    return typing.is_typeddict(kind) or issubclass(kind, Exception) or bool(protocol)


def _methods(
    place: str, kind: type
) -> Iterator[tuple[str, Callable[..., Any], Callable[..., Any]]]:
    for name, method in vars(kind).items():
        inner = getattr(method, "__func__", method)
        if not name.startswith("_") and inspect.isfunction(inner):
            yield f"{place}.{name}", getattr(kind, name), inspect.unwrap(inner)


def _parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(call).parameters.values())
    except ValueError:  # classes of C
        return []


def main() -> None:
    """Print every door that lets something pass, and every one that nobody has thought of."""
    found = words()
    apart = {*OUTPUTS, *BEHIND}
    for place in sorted(found.keys() - apart):
        if said := passes(place, *found[place]):
            print(place, said, sep=": ")
    for place in sorted(apart - found.keys()):
        print(place, "is no door any more", sep=": ")
    takers = open_ended()
    for place in sorted(takers - OPTIONS.keys() - INNER.keys()):
        print(place, "takes **keywords; try it here", sep=": ")
    for place in sorted((OPTIONS.keys() | INNER.keys()) - takers):
        print(place, "takes no **keywords any more", sep=": ")
    for place in sorted(OPTIONS.keys() & takers):
        if said := offers(*OPTIONS[place]):
            print(place, said, sep=": ")
    print(f"{len(found)} words, {len(takers)} takers of keywords")


if __name__ == "__main__":
    main()
