"""One HTML file that needs nothing else: no network, no script, light and dark, any width."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

from trimtab.evaluation.report.canvas import Drawing
from trimtab.evaluation.report.data import Report
from trimtab.evaluation.report.grids import Grid
from trimtab.evaluation.report.samples import Answer, Side
from trimtab.evaluation.report.sentences import number
from trimtab.evaluation.report.tint import tinted

ENDS = {"eos": "ended by itself", "length": "cut at the budget", "stop": "stopped"}


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        _section("Methods", *(_table(grid, report.baseline) for grid in report.tables)),
        _section(
            f"Pictures, split {report.split}",
            _paragraphs(report.verdicts),
            '<div class="pictures">',
            *(_picture(drawing) for drawing in report.drawings),
            "</div>",
        ),
        *_strengths(report),
        _section("Side by side", _legend(report.sides), *(_side(side) for side in report.sides)),
        _section("How it came about", _manifest(report)),
    ]
    return Template(_file("page.html")).substitute(
        title=escape(report.title),
        style=_file("page.css").strip(),
        summary=_paragraphs(report.summary),
        body="\n".join(parts),
        version=escape(str(report.manifest["trimtab"])),
    )


def _file(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def _section(title: str, *inside: str) -> str:
    return "\n".join([f"<section>\n<h2>{escape(title)}</h2>", *inside, "</section>"])


def _paragraphs(sentences: Sequence[str]) -> str:
    return "\n".join(f'<p class="say">{escape(said)}</p>' for said in sentences)


def _strengths(report: Report) -> list[str]:
    if not report.strengths:
        return []
    tables = [_table(grid, report.baseline) for grid in report.strengths]
    return [_section("All strengths", *tables)]


# --- tables and pictures -------------------------------------------------------------------------


def _table(grid: Grid, baseline: str) -> str:
    """A table in a box of its own that scrolls; the page itself never does sideways."""
    kinds = ["", *(_kind(values) for values in list(zip(*grid.rows, strict=True))[1:])]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(grid.head, kinds, strict=True)
    )
    rows = "\n".join(_row(row, kinds, baseline) for row in grid.rows)
    label = escape(grid.caption, quote=True)
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    return (
        f"<h3>{escape(grid.caption)}</h3>\n"
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{note}"
    )


def _kind(values: Sequence[str]) -> str:
    """Words stand left, figures right."""
    figures = any(value[:1] in "+-<0123456789" or value.startswith("n = ") for value in values)
    return "" if figures else ' class="words"'


def _row(row: Sequence[str], kinds: Sequence[str], baseline: str) -> str:
    name = escape(row[0]).replace("(", "<wbr>(")  # where a long name may break
    mark = ' class="base"' if row[0] == baseline else ""
    cells = "".join(
        f"<td{kind}>{escape(value)}</td>" for value, kind in zip(row[1:], kinds[1:], strict=True)
    )
    return f'<tr{mark}><th scope="row">{name}</th>{cells}</tr>'


def _picture(drawing: Drawing) -> str:
    name = drawing.name
    return (
        f'<figure id="{name}">\n<h3>{escape(drawing.title)}</h3>\n{drawing.svg}\n'
        f"<figcaption>{escape(drawing.caption)}\n"
        f'<details><summary>In words</summary><p id="{name}-words">{escape(drawing.alt)}.</p>'
        "</details></figcaption>\n</figure>"
    )


# --- texts ---------------------------------------------------------------------------------------


def _legend(sides: Sequence[Side]) -> str:
    """What the tints mean, one line for each scale."""
    said = (
        "The first response to prompts that are evenly spaced through the split, of the baseline "
        "and of each method at its strength of most reward. A token's tint is the guide's score of "
        "the text so far; texts without a guide are tinted by the same function where it is the "
        "reward, and stay plain elsewhere."
    )
    scales = {answer.scale: None for side in sides for answer in side.answers if answer.scale.width}
    lines = [f'<p class="note">{said}</p>']
    for scale in scales:
        low, high = (f"{scale.middle + sign * scale.width:+.2f}" for sign in (-1, 1))
        name, middle = escape(scale.name), f"{scale.middle:.2f}"
        label = f"{name}: orange is towards {low}, blue towards {high}, none at {middle}"
        lines.append(
            f'<div class="legend" role="img" aria-label="{label}">'
            f"<span>{name}</span><span>{low}</span>"
            f'<div class="bar"></div><span>{high}</span></div>'
        )
    return "\n".join(lines)


def _side(side: Side) -> str:
    answers = "\n".join(_answer(answer) for answer in side.answers)
    return (
        f'<blockquote>{escape(side.prompt)}</blockquote>\n<div class="answers">\n{answers}\n</div>'
    )


def _answer(answer: Answer) -> str:
    facts = [f"{role} {number(x, '+.2f')}" for role, x in answer.scores if x is not None]
    facts += [f"KL {number(answer.kl, '.1f')}"] if answer.kl is not None else []
    return (
        f"<article><h4>{escape(answer.method)}</h4>\n"
        f'<p class="text">{tinted(answer.pieces, answer.scale).strip()}</p>\n'
        f'<p class="facts">{escape(", ".join([*facts, ENDS[answer.finish]]))}</p></article>'
    )


def _manifest(report: Report) -> str:
    model = report.manifest["model"]
    said = (
        f"Model {model['name']} (weights {model['weights']}), task {report.manifest['task']}, "
        f"trimtab {report.manifest['trimtab']}."
    )
    whole = json.dumps(report.manifest, indent=1, ensure_ascii=False)
    return (
        f'<p class="say">{escape(said)}</p>\n<details><summary>Manifest</summary>\n'
        f'<pre tabindex="0">{escape(whole)}</pre>\n</details>'
    )
