"""What can go wrong, as types, and the checks that every door shares.

Each message says what must hold, what was got, and what to do. On the command line the exit code is
2 where the call itself cannot be meant (`UsageError`), else 1.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Iterable
from typing import Any, ClassVar, get_args

__all__ = [
    "AssetError",
    "CheckpointError",
    "ChecksumError",
    "DataError",
    "FetchError",
    "GuideError",
    "IncompatibleError",
    "LawError",
    "ModelError",
    "NotFetchedError",
    "OutputError",
    "PluginError",
    "PromptError",
    "ResultsError",
    "RewardError",
    "TemplateError",
    "TermsError",
    "TrainingError",
    "TrimtabError",
    "TrimtabWarning",
    "UnavailableError",
    "UnknownNameError",
    "UsageError",
]

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s'\"]+)")
_HOST = re.compile(r"([^:@\[\]]+|\[[^\]]*\])(:\d*)?")


def public(text: str) -> str:
    """A text whose URLs have lost what may be secret: user, password, query and fragment.

    >>> public("asked https://me:word@host:80/score?api_key=abc twice")
    'asked https://host:80/score twice'
    """
    return _URL.sub(lambda url: url[1] + _plain(url[2]), text)


def _plain(rest: str) -> str:
    """Host and path of what follows a URL's scheme."""
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    if "@" in host:
        return host.rpartition("@")[2] + slash + path
    # A password may hold a slash; then the last "@" ends it.
    return rest if _HOST.fullmatch(host) else rest.rpartition("@")[2]


class TrimtabError(Exception):
    """Base of every error that trimtab raises on purpose.

    Args:
        must: what has to hold ("k must be at most the vocabulary's 49152 tokens").
        got: what was there instead ("k = 50000").
        do: the way out ("pass a smaller k").
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, must: str, *, got: str, do: str) -> None:
        self.must, self.got, self.do = public(must), public(got), public(do)
        super().__init__(f"{self.must}; got {self.got}; {self.do}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors of worker processes reach the parent whole, whatever their arguments."""
        return _revive, (type(self), self.must, self.got, self.do)


def _revive(kind: type[TrimtabError], must: str, got: str, do: str) -> TrimtabError:
    error = kind.__new__(kind)
    TrimtabError.__init__(error, must, got=got, do=do)
    return error


class TrimtabWarning(UserWarning):
    """Nothing failed, and the result is not what it seems."""


class UsageError(TrimtabError):
    """The call cannot be meant as it stands."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A name that is not among the known ones; the nearest known names are offered."""

    def __init__(self, kind: str, name: object, known: Iterable[str], *, do: str = "") -> None:
        known = sorted(known)
        near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
        some = f"known: {', '.join(known)}" if known else "there are none"
        advice = f"did you mean {' or '.join(near)}?" if near else some
        super().__init__(
            f"{kind} must be a known name", got=repr(name), do=f"{advice}; {do}" if do else advice
        )


class IncompatibleError(UsageError):
    """Two parts that do not fit together."""


class PromptError(UsageError):
    """A prompt that cannot be decoded from."""


class TemplateError(PromptError):
    """A conversation that the model's chat template does not take."""


class AssetError(TrimtabError):
    """A model or data file that could not be had."""


class NotFetchedError(AssetError):
    """A known asset that is not on this machine yet."""


class FetchError(AssetError):
    """A download that did not arrive whole."""


class ChecksumError(AssetError):
    """Bytes that are not the pinned ones."""


class TermsError(AssetError):
    """Terms of use that were not accepted."""


class CheckpointError(TrimtabError):
    """A guide folder that is not whole, not ours or not safe to read."""


class ModelError(TrimtabError):
    """A base model returned what no base may return."""


class GuideError(TrimtabError):
    """A guide returned what no guide may return."""


class RewardError(TrimtabError):
    """A reward function failed, or returned what no reward may return."""


class UnavailableError(RewardError):
    """A reward that cannot be asked at all, such as a server that is down: no text is to blame."""


class DataError(TrimtabError):
    """Data that is not there, not whole, or not fit for the purpose."""


class ResultsError(DataError):
    """A run's folder of other work, or one that is not whole or cannot be written."""


class TrainingError(TrimtabError):
    """A training run that went nowhere."""


class OutputError(TrimtabError):
    """A file that cannot be written."""


class PluginError(TrimtabError):
    """A plugin of an installed package that cannot be loaded; the message names the package."""


class LawError(TrimtabError):
    """A model, guide, rule or method breaks a law that the decode loop relies on."""


def check_word(what: str, word: object, words: Any) -> None:
    """Raise `UnknownNameError` unless a word is one of a closed set: a `Literal`, or names."""
    known = get_args(words) or tuple(words)
    if not isinstance(word, str) or word not in known:
        raise UnknownNameError(what, word, known)


def check_keywords(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise `UnknownNameError` for a keyword that a function does not take."""
    known = tuple(known)
    for name in given:
        if name not in known:
            raise UnknownNameError(f"an option of {function}", name, known)


def check_whole(name: str, value: Any, least: int | None = None) -> int:
    """A whole number as an int: Python's, numpy's or a tensor's; else a `UsageError`."""
    do = "pass a whole number" if least is None else f"pass a whole number of at least {least}"
    try:
        number = operator.index(value)
    except TypeError as error:
        raise UsageError(f"{name} must be a whole number", got=f"{value!r}", do=do) from error
    if least is not None and number < least:
        raise UsageError(f"{name} must be at least {least}", got=f"{value}", do="raise it")
    return number


def check_number(name: str, value: Any) -> float:
    """A finite number as a float: Python's, numpy's or a tensor's; else a `UsageError`."""
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{name} must be a finite number", got=f"{value!r}", do="pass a number")
    return number
