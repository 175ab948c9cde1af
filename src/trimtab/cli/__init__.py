"""The command line: parse, call, print. One small file per command, heavy imports inside them."""

from __future__ import annotations

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
from trimtab.cli.app import app

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
    app()
