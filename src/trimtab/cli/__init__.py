"""The command line: parse, call, print. One small file per command, heavy imports inside them."""

from trimtab.cli.app import app, main, run

__all__ = ["app", "main", "run"]
