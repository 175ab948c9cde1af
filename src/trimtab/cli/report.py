"""`trimtab report`: a results folder as one page, with Markdown, CSV and PNG beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from trimtab.cli.options import OutputOptions


def report(
    folder: Path,
    *,
    out: Annotated[Path | None, Parameter(alias="-o")] = None,
    output: OutputOptions = OutputOptions(),
) -> None:
    """Show results: tables, pictures and texts in one HTML file; nothing is decoded.

      trimtab report results

      trimtab report results --out docs/sentiment

    Args:
        folder: What `trimtab evaluate`, `trimtab sweep` or `trimtab collect` wrote.
        out: Folder of the report; default: FOLDER/report.
    """
    from trimtab.cli.screen import print_json
    from trimtab.evaluation.report import write

    paths = [str(path) for path in write.report(folder, out)]
    if output.json:
        print_json(paths)
    elif not output.quiet:
        print("\n".join(paths))
