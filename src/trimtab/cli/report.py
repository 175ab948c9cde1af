"""`trimtab report`: a results folder as one page, with Markdown, CSV and PNG beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def report(
    folder: Annotated[Path, Argument(help="What `trimtab evaluate` or `trimtab sweep` wrote.")],
    out: Annotated[
        Path | None, Option("--out", "-o", help="Folder of the report; default: FOLDER/report.")
    ] = None,
) -> None:
    """Show results: tables, pictures and texts in one HTML file; nothing is decoded.

    **Examples**

        trimtab report results

        trimtab report results --out docs/sentiment
    """
    from trimtab.evaluation.report.write import write_report

    for path in write_report(folder, out):
        print(path)
