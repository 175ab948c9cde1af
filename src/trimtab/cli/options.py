"""The options that several commands share, each declared once, and what they open.

A class is a panel of the help; its fields are flags, and Python's names of the same options.
"""

from __future__ import annotations

import json as json_
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, make_dataclass, replace
from types import MappingProxyType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    dataclass_transform,
    get_type_hints,
)

from cyclopts import Group, Parameter, validators
from rich.markup import escape

from trimtab.errors import PromptError, UsageError, public

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.runs.resolve import OpenModel
    from trimtab.types import Sample, Template

Count: TypeAlias = Annotated[int, Parameter(validator=validators.Number(gte=1))]
Names: TypeAlias = Annotated[tuple[str, ...], Parameter(allow_leading_hyphen=True)]
"""May be given several times; a sum of rewards may begin with a minus."""

Split: TypeAlias = Literal["train", "validation", "test", "all"]

T = TypeVar("T")

STDIN = "<stdin>"
"""What the parser is given for `-`, which it would take for an option."""

PROMPTS = Group.create_ordered("Prompts", sort_key=1)
STEERING = Group.create_ordered("Steering", sort_key=1)
RUN = Group.create_ordered("Run", sort_key=3)
OUTPUT = Group.create_ordered("Output", sort_key=3)
BASE = Group.create_ordered("Base model", sort_key=3)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def panel(group: Group) -> Callable[[type[T]], type[T]]:
    """Makes a class a panel of the help: fields are flags, attributes' lines explain them."""

    def decorate(options: type[T]) -> type[T]:
        options.__doc__ = one_line_each(options.__doc__)
        return Parameter(name="*", group=group)(dataclass(frozen=True, kw_only=True)(options))

    return decorate


def one_line_each(docstring: str | None) -> str:
    """A docstring whose arguments have their explanation in one line, for the help to break."""
    return re.sub(r"\n {12}(?=\S)", " ", docstring or "")


def options_of(
    settings: type,
    group: Group,
    *,
    without: Sequence[str] = (),
    aliases: Mapping[str, str] = MappingProxyType({}),
    hints: Mapping[str, Any] = MappingProxyType({}),
    optional: bool = False,
) -> Any:
    """A panel with a flag for each field of a dataclass, explained by its attribute's line.

    Types on the command line may be others (`hints`). `optional` flags are None unless they are
    given, so that a file may say the value.
    """
    from docstring_parser import parse

    lines = {each.arg_name: each.description for each in parse(settings.__doc__ or "").params}
    types, made = get_type_hints(settings), list[Any]()
    for each in fields(settings):
        if each.name in without:
            continue
        text = " ".join((lines[each.name] or "").split())
        hint, default = hints.get(each.name, types[each.name]), each.default
        if optional:
            shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
            text += "" if default in (MISSING, None, False) else f" Default: {shown}."
            hint, default = hint | None, None
        text = f"{text[:1].upper()}{text[1:]}"
        flag = Parameter(
            help=escape(text), alias=aliases.get(each.name), allow_leading_hyphen=hint is str
        )
        made.append((each.name, Annotated[hint, flag], field(default=default)))
    options = make_dataclass(settings.__name__, made, frozen=True, kw_only=True)
    options.__module__ = settings.__module__  # a class of Python's own would be one flag
    return Parameter(name="*", group=group)(options)


@panel(BASE)
class ModelOptions:
    """The base policy.

    Attributes:
        model: A fetched model's name, a folder, or a Hub id.
        device: cpu, cuda, cuda:1, mps; default: the best that is there.
        dtype: auto, float32, bfloat16 or float16.
        threads: CPU threads of this process.
        base_temperature: Shapes the base before steering.
        base_top_p: Cuts the base to this nucleus.
    """

    model: str = "smollm2"
    device: str | None = None
    dtype: str = "auto"
    threads: Count | None = None
    base_temperature: float = 1.0
    base_top_p: float = 1.0

    def opener(self, template: Template = "auto") -> OpenModel:
        """What opens it, here or in a worker; names that cannot be meant are errors now."""
        from trimtab.runs.resolve import find_model

        opener = find_model(
            self.model,
            device=self.device,
            dtype=self.dtype,
            base_temperature=self.base_temperature,
            base_top_p=self.base_top_p,
            template=template,
        )
        quiet_libraries()
        use_threads(self.threads)
        return opener

    def open(self, template: Template = "auto") -> TransformersLM:
        """The base in this process."""
        lm: Any = self.opener(template)()
        return lm  # type: ignore[no-any-return]  # find_model opens nothing else


@panel(PROMPTS)
class PromptOptions:
    """Prompts from a file.

    Attributes:
        prompts: A file (.txt, .jsonl, .json, .csv, .tsv, .parquet), or hub:DATASET@SPLIT#COLUMN.
        column: Where a row of --prompts has its prompt; default: prompt, or messages.
        limit: The first so many prompts.
    """

    prompts: Annotated[str | None, Parameter(alias="-p")] = None
    column: str | None = None
    limit: Count | None = None

    def check(self) -> None:
        """Raise a `UsageError` for a column of nothing."""
        if self.column and not self.prompts:
            must = "--column names a column of --prompts"
            raise UsageError(must, got="no --prompts", do="add it")


@panel(STEERING)
class MethodOptions:
    """One method.

    Attributes:
        method: See `trimtab methods`; default: vas with a guide, else sampling.
        guide: What steers: a guide's name or folder, a reward model (folder, ORG/NAME, with #LABEL
            for one of several), or a reward that is read on prefixes: brevity, FILE.py:NAME,
            reward:sentiment.
        beta: Strength: nats of log-odds per unit of score.
        k: Candidates per token.
        set_: Another parameter of the method, such as n=16 or tail=drop; may repeat.
    """

    method: Annotated[str | None, Parameter(alias="-m")] = None
    guide: Annotated[str | None, Parameter(alias="-g", allow_leading_hyphen=True)] = None
    beta: Annotated[float | None, Parameter(alias="-b")] = None
    k: Annotated[Count | None, Parameter(alias="-k")] = None
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = ()

    def find(self, temperature: float | None = None) -> Method:
        """The method that was named, or the usual one: vas with a guide, else sampling."""
        from trimtab.runs.resolve import find_method

        name = self.method or ("vas" if self.guide else "sampling")
        named = {"beta": self.beta, "k": self.k, "temperature": temperature}
        parameters = {key: value for key, value in named.items() if value is not None}
        parameters |= {key: values[-1] for key, values in settings(self.set_).items()}
        if name == "sampling" and parameters.get("temperature") == 0:
            return find_method("greedy")
        method = find_method(name, **parameters)
        if self.guide and not method.guided:
            raise UsageError(
                f"--method {name} is steered by nothing",
                got=f"--guide {public(self.guide)}",
                do="drop it, or name a guided method, such as vas, args or best-of-n (see `trimtab "
                "methods`)",
            )
        return method


@panel(RUN)
class RunOptions:
    """How many prompts and responses, and where.

    Attributes:
        n: Responses per prompt.
        seed: Decides every draw.
        max_new_tokens: Longest response, in tokens; default: the task's.
        rows: Responses decoded side by side.
        workers: Processes; what comes out is the same for any number.
        on: Where they run: ray, or HOST:PORT of a Ray cluster. Default: this machine.
    """

    n: Annotated[Count, Parameter(alias="-n")] = 1
    seed: int = 0
    max_new_tokens: Count | None = None
    rows: Count = 32
    workers: Count = 1
    on: str | None = None


@panel(OUTPUT)
class OutputOptions:
    """What is shown.

    Attributes:
        json: Print JSON.
        quiet: Print no progress, and nothing that is not asked for.
    """

    json: Annotated[bool, Parameter(negative="")] = False
    quiet: Annotated[bool, Parameter(alias="-q", negative="")] = False


# --- what they mean ------------------------------------------------------------------------------


def read_prompts(
    arguments: Sequence[str], given: PromptOptions, system: str | None = None
) -> list[Sample]:
    """Prompts as arguments (`STDIN` is one) or from a file, with what that knows of them."""
    from trimtab.tasks import read_samples, samples_of
    from trimtab.tasks.files import rows_in
    from trimtab.types import Sample

    given.check()
    if arguments and given.prompts:
        got = "arguments and --prompts"
        raise UsageError("prompts come from one place", got=got, do="drop one")
    if given.prompts == STDIN:
        rows = rows_in(sys.stdin.buffer.read(), "stdin")
        samples = list(samples_of(rows, "stdin", given.column))
    elif given.prompts:
        samples = list(read_samples(given.prompts, given.column))
    elif not arguments and sys.stdin.isatty():
        raise PromptError("a prompt must be given", got="none", do='try: trimtab generate "Hello"')
    else:
        texts = [_stdin() if text == STDIN else text for text in arguments or [STDIN]]
        samples = [Sample(text, text) for text in texts]
    samples = samples[: given.limit]
    return samples if system is None else [_told(sample, system) for sample in samples]


def _stdin() -> str:
    """A whole letter or page as one prompt; the last line's end is the shell's, not the text's."""
    text = sys.stdin.read().rstrip("\n")
    if not text:
        raise PromptError("a prompt must not be empty", got="nothing on stdin", do="write one")
    return text


def _told(sample: Sample, system: str) -> Sample:
    """A prompt after a system message."""
    turns = sample.prompt
    talk = ({"role": "user", "content": turns},) if isinstance(turns, str) else turns
    if talk[0]["role"] == "system":
        raise UsageError(
            "--system is told to prompts without a system message of their own",
            got="one that has it",
            do="drop --system",
        )
    return replace(sample, prompt=({"role": "system", "content": system}, *talk))


def settings(pairs: Sequence[str]) -> dict[str, list[Any]]:
    """`--set n=16 --set n=32 --set tail=drop` as names with their values, in JSON's types.

    >>> settings(["n=16", "n=32", "tail=drop"])
    {'n': [16, 32], 'tail': ['drop']}
    """
    values: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError("--set must be NAME=VALUE", got=repr(pair), do="e.g. --set n=16")
        try:
            value = json_.loads(text)
        except ValueError:  # a word, such as tail=drop
            value = text
        values.setdefault(name, []).append(value)
    return values


def quiet_libraries() -> None:
    """The libraries' own bars and notices would mix with ours; what fails is said by our errors."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def use_threads(threads: int | None) -> None:
    """Let torch use so many CPU threads; None leaves it its own number."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
