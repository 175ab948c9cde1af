"""From names on the command line to a model, a guide and a method."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trimtab.errors import UnknownNameError, UsageError, public

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.protocols import Guide

DTYPES = ("auto", "float32", "bfloat16", "float16")


def quiet_libraries() -> None:
    """The libraries' own bars and notices would mix with ours; what fails is said by our errors."""
    import logging

    from transformers.utils import logging as theirs

    theirs.disable_progress_bar()
    theirs.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def check_spelling(name: str) -> None:
    """Say what is wrong with a model's name before anything is imported, or the Hub asked.

    Raises:
        UnknownNameError: a near miss of a name that trimtab fetches.
        NotFetchedError: such a name, not on this machine yet.
        UsageError: a path where nothing is.
    """
    from trimtab.assets import ASSETS, locate

    known = [asset.name for asset in ASSETS]
    near = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.7)
    if near and name not in known and "/" not in name and not Path(name).exists():
        raise UnknownNameError("a model", name, known)
    locate(name)


def build_model(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    threads: int | None = None,
    base_temperature: float = 1.0,
    base_top_p: float = 1.0,
) -> TransformersLM:
    """The base model on its device, loaded without a word."""
    check_spelling(name)

    import torch

    from trimtab.models.transformers import TransformersLM

    loading: dict[str, Any] = {}
    if threads is not None:
        torch.set_num_threads(threads)
    if device is not None:
        loading["device"] = _device(device)
    if dtype is not None:
        if dtype not in DTYPES:
            raise UnknownNameError("a dtype", dtype, DTYPES)
        loading["dtype"] = dtype
    quiet_libraries()
    return TransformersLM(name, base_temperature=base_temperature, base_top_p=base_top_p, **loading)


def _device(name: str) -> Any:
    import torch

    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UsageError(
            "a device must be one that torch can use here",
            got=f"{name!r}",
            do="use cpu, or cuda where there is one",
        ) from error


def check_steering(guide: str | None, reward: str | None) -> None:
    """Say what is wrong with the names before any model is loaded, or the Hub asked.

    Raises:
        UnknownNameError: there is no such guide or reward; near names are offered.
        UsageError: both are given, or one cannot be meant.
    """
    if guide and reward:
        raise UsageError(
            "one thing steers at a time", got="--guide and --reward", do="drop one of them"
        )
    if guide:
        from trimtab.assets import locate
        from trimtab.guides.shipped import check_name, guide_folder

        check_name(guide)
        if guide_folder(guide) is None:
            locate(guide.partition("#")[0])
    if reward:
        from trimtab.rewards import reward as find

        find(reward)


def build_guide(lm: TransformersLM, guide: str | None, reward: str | None) -> Guide[Any] | None:
    """A saved guide, a reward model, a reward function read on prefixes, or none.

    Their names are those that `check_steering` found fine.
    """
    if reward:
        from trimtab.guides import TextGuide
        from trimtab.rewards import on_texts
        from trimtab.rewards import reward as find

        return TextGuide(on_texts(find(reward)), lm.decode, name=public(reward))
    if not guide:
        return None
    from trimtab.guides.shipped import guide_folder

    if guide_folder(guide) is not None:
        from trimtab.guides import load_guide

        return load_guide(guide, lm=lm)
    from trimtab.guides import RewardGuide

    return RewardGuide.load(guide, lm)


def settings_of(
    lm: TransformersLM, guide: Guide[Any] | None, reward: str | None, method: Method
) -> dict[str, Any]:
    """What the texts depend on, in JSON's types: the base, what steers it, the method's parts."""
    import trimtab
    from trimtab.cli.methods import parts_of
    from trimtab.runs.fingerprint import fingerprint
    from trimtab.runs.identity import identify
    from trimtab.runs.resolve import find_reward

    steering = find_reward(reward).fingerprint if reward else guide and fingerprint(guide).value
    return {
        "trimtab": trimtab.__version__,
        "base": identify(lm).identity(),
        "template": lm.codec.template,
        "parts": parts_of(method),
        "steering": steering,
    }


def build_method(name: str, given: dict[str, Any], settings: Sequence[str]) -> Method:
    """A method by name with the parameters that were given.

    Args:
        name: of the method.
        given: parameters by name; None is not given.
        settings: more of them as `name=value`.
    """
    from trimtab.cli.methods import described

    known = [one["name"] for one in described()]
    if name not in known:  # said before torch is imported
        raise UnknownNameError("a method", name, known)
    from trimtab.decoding.methods import method

    parameters = {key: value for key, value in given.items() if value is not None}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise UsageError("--set must be NAME=VALUE", got=repr(setting), do="e.g. --set n=16")
        parameters[key] = _value(value)
    if name == "sampling" and parameters.get("temperature") == 0:
        return method("greedy")
    try:
        return method(name, **parameters)
    except TypeError as error:  # --set k=many
        raise UsageError(
            f"the parameters of {name} must have the right types",
            got=", ".join(f"{k} = {v!r}" for k, v in parameters.items()),
            do="`trimtab methods` shows its defaults",
        ) from error


def _value(text: str) -> Any:
    """A number, true, false or null where it reads as one, else the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
