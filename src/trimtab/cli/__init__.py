"""The command line: parse, call, print. One small file per command, heavy imports inside them."""

from __future__ import annotations

import os

from trimtab.cli import (
    assets,
    collect,
    demo,
    evaluate,
    generate,
    inspect,
    methods,
    report,
    sweep,
    train,
)
from trimtab.cli.app import app, guard_stdout

__all__ = ["app", "main"]

app.command("generate")(generate.generate)
app.command("demo")(demo.demo)
app.command("methods")(methods.methods)
app.command("evaluate")(evaluate.evaluate)
app.command("collect")(collect.collect)
app.command("train")(train.train)
app.command("inspect")(inspect.inspect)
app.command("sweep")(sweep.sweep)
app.command("report")(report.report)
app.add_typer(assets.app, name="assets")


def main() -> None:
    """What `trimtab` runs."""
    wait_passively()
    guard_stdout()
    app()


def wait_passively() -> None:
    """Threads with nothing to do sleep, in this process and its workers, unless the user chose.

    By default OpenMP's threads spin while they wait for each other. Where something else wants the
    cores, that takes several times the time and the CPU; where nothing does, it gains next to
    nothing. OpenMP reads its settings once, when torch is imported.
    """
    theirs = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
    if not any(name in os.environ for name in theirs):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # GNU's, which torch brings on Linux
        os.environ["KMP_BLOCKTIME"] = "0"  # LLVM's and Intel's
