"""The door of the command line: commands are gathered, errors become one line and an exit code.

Exit codes: 0 done, 1 failed, 2 the call cannot be meant, 130 interrupted.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TextIO, TypeVar, cast

from cyclopts import App, CycloptsError, Parameter

from trimtab import version
from trimtab.cli import catalogue, collect, evaluate, generate, inspect, presets, train
from trimtab.cli.options import STDIN, one_line_each
from trimtab.errors import OutputError, TrimtabError, TrimtabWarning, UsageError

INTERRUPTED, CLOSED = 130, 141  # 128 + SIGINT, 128 + SIGPIPE: what shells expect

HELP = """Steer a frozen language model towards a reward while it decodes.

Start here:

  trimtab assets fetch smollm2

  trimtab generate "What do you think of rainy days? Answer in one sentence." -g sentiment -b 8
      -k 10 --base-temperature 0.7 -r sentiment --compare

  trimtab demo

Every command takes --config FILE.yaml (its options by name; flags win) and --debug (tracebacks).
"""

app = App(
    name="trimtab",
    help=HELP,
    help_format="rich",
    version=f"trimtab {version.__version__}",
    result_action="return_value",
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(
        allow_repeating=True, negative_iterable=(), show_default=lambda value: value or None
    ),
)
for command in (
    generate.generate,
    presets.steer,
    collect.collect,
    train.train,
    evaluate.evaluate,
    evaluate.sweep,
    evaluate.report,
    inspect.inspect,
    presets.demo,
    catalogue.methods,
):
    command.__doc__ = one_line_each(command.__doc__)
    app.command(command)
app.command(catalogue.assets)
app.register_install_completion_command(add_to_startup=True)


def main() -> NoReturn:
    """What `trimtab` runs."""
    wait_passively()
    inner = sys.stdout if sys.stdout is not None else open(os.devnull, "w")  # noqa: SIM115
    sys.stdout = cast("TextIO", Stdout(inner))
    sys.exit(run(sys.argv[1:]))


def wait_passively() -> None:
    """Threads with nothing to do sleep, in this process and its workers, unless the user chose.

    By default OpenMP's threads spin while they wait for each other. Where something else wants the
    cores, that takes several times the time and the CPU; where nothing does, it gains next to
    nothing. OpenMP reads its settings once, when torch is imported.
    """
    chosen = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    if not any(name in os.environ for name in chosen):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # GNU's, which torch brings on Linux
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's and Intel's


def run(arguments: Sequence[str]) -> int:
    """Run what follows `trimtab`; the exit code. Errors of ours are a line, never a traceback."""
    tokens, debug = _without_flag(arguments, "--debug")
    try:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return _call(tokens)
        except TrimtabError as error:
            if debug:
                raise
            return _fail(on_command_line(str(error), flags_of(tokens)), error.exit_code)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        finally:
            sys.stdout.flush()  # a closed pipe or a full disk shows here and not at exit
    except ClosedError:
        return CLOSED
    except OutputError as error:
        return _fail(str(error), error.exit_code)


def _call(tokens: list[str]) -> int:
    if not tokens:
        app.help_print([])
        return UsageError.exit_code
    tokens, path = _config_file([STDIN if token == "-" else token for token in tokens])
    app.config = () if path is None else (_config(path),)
    try:
        code = app(tokens, exit_on_error=False, print_error=False, verbose=False)
    except CycloptsError as error:
        return _fail(" ".join(str(error).split()), UsageError.exit_code)
    return code if isinstance(code, int) else 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings in one line; a library's as Python shows them."""
    text = warnings.formatwarning(message, category, filename, lineno, line)
    ours = issubclass(category, TrimtabWarning)
    print(f"warning: {message}\n" if ours else text, end="", file=sys.stderr)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


# --- stdout, whose failures are told from those of files ------------------------------------------

T = TypeVar("T")


class ClosedError(Exception):
    """Whoever read stdout has gone: `trimtab ... | head` has read enough."""


class Stdout:
    """The process' stdout, which says in our errors why it cannot be written to."""

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner

    def write(self, text: str) -> int:
        """Prints a text."""
        return self._try(lambda: self.inner.write(text))

    def flush(self) -> None:
        """Hands on what was printed."""
        self._try(self.inner.flush)

    def _try(self, act: Callable[[], T]) -> T:
        try:
            return act()
        except OSError as error:
            # What it still holds goes nowhere, so that it is not tried again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.inner.fileno())
            if isinstance(error, BrokenPipeError):
                raise ClosedError from error
            why = error.strerror or str(error)
            raise OutputError("stdout must be writable", got=why, do="print elsewhere") from error

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's."""
        return getattr(self.inner, name)


# --- what every command takes --------------------------------------------------------------------


def _without_flag(arguments: Sequence[str], flag: str) -> tuple[list[str], bool]:
    """The arguments without a flag, which may stand anywhere before a bare `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    rest = [argument for argument in arguments[:end] if argument != flag]
    return [*rest, *arguments[end:]], len(rest) < end


def _config_file(tokens: list[str]) -> tuple[list[str], str | None]:
    """The arguments without `--config FILE`, and the file; `train` reads its own."""
    end = tokens.index("--") if "--" in tokens else len(tokens)
    for i, token in enumerate(tokens[:end]):
        flag, equals, path = token.partition("=")
        if flag == "--config" and tokens[0] != "train":
            if not equals and i + 1 == end:
                raise UsageError("--config must name a file", got="none", do="e.g. trimtab.yaml")
            rest = tokens[i + 1 :] if equals else tokens[i + 2 :]
            return [*tokens[:i], *rest], path if equals else tokens[i + 1]
    return tokens, None


def _config(path: str) -> Any:
    """The options of a YAML file, as cyclopts reads them."""
    import yaml
    from cyclopts.config import Dict

    try:
        with open(path, encoding="utf-8") as file:
            values = yaml.safe_load(file) or {}
    except (OSError, yaml.YAMLError) as error:
        why = " ".join(str(error).split())
        raise UsageError("--config must name a YAML file", got=why, do="check the path") from error
    if not isinstance(values, dict):
        raise UsageError(
            f"{path} must hold NAME: VALUE lines", got=type(values).__name__, do="e.g. beta: 8"
        )
    settings = values.get("set")
    if isinstance(settings, dict):  # `set: {n: 16}` reads better than `set: ["n=16"]`
        values["set"] = [f"{name}={value}" for name, value in settings.items()]
    return Dict(values, source=path, use_commands_as_keys=False)


# --- errors spell options as the command line does -----------------------------------------------


def flags_of(tokens: Sequence[str]) -> dict[str, str]:
    """The options of the command that these arguments call, by their names in Python."""
    command = app
    for token in tokens:
        if token.startswith("-") or token not in command:
            break
        command = command[token]
    if command.default_command is None or command is app:
        return {}
    flags: dict[str, str] = {}
    for argument in command.assemble_argument_collection():
        long = [name for name in argument.names if name.startswith("--")]
        if long and argument.parse:
            flags[argument.field_info.name.rstrip("_")] = long[0]
    return flags


def on_command_line(message: str, flags: Mapping[str, str]) -> str:
    """A message with options as they are spelled there: errors come from Python and spell its way.

    >>> flags = {"max_new_tokens": "--max-new-tokens", "k": "--k", "overwrite": "--overwrite"}
    >>> on_command_line("max_new_tokens must be at least 1; pass max_new_tokens=3", flags)
    '--max-new-tokens must be at least 1; pass --max-new-tokens 3'
    >>> on_command_line("pass overwrite=True, or k=5; --set k=5; k must fit", flags)
    'pass --overwrite, or --k 5; --set k=5; k must fit'
    """

    def spelled(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"]
        if value is None:
            return flags.get(match[0], match[0])
        if name not in flags:
            return match[0]
        value = value.strip("\"'")
        return flags[name] if value == "True" else f"{flags[name]} {value}"

    return _OPTION.sub(spelled, message)


_OPTION = re.compile(
    r"""
    (?<!--set\ )(?<![\w./-])               # NAME=VALUE as Python spells it; --set is spelled so
    (?P<name>[a-z]\w*)=(?P<value>"[^"]*"|'[^']*'|[^\s,;)]+)
    |                                      # or a name that no other word is: with an underscore,
    (?<![\w./="'-])[a-z]+(?:_[a-z]+)+      # and no part of a path or a quoted text
    (?![\w./="'])
    """,
    re.VERBOSE,
)
