"""The table and two completions, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from trimtab.demo.results import Line
from trimtab.demo.running import Outcome, Run
from trimtab.evaluation.statistics import Estimate

STEERED = "VAS"
"""The arm that is shown beside the base."""


def report(outcome: Outcome, lines: Sequence[Line]) -> Group:
    """All that the terminal shows."""
    return Group(table(lines), notes(outcome, lines), side_by_side(outcome))


def cells(lines: Sequence[Line]) -> list[list[str]]:
    """The table as text, its heads first."""
    heads = ["", "reward", "KL/token", "diversity", "tokens", "guide/token", "time"]
    return [heads, *(_row(line) for line in lines)]


def _row(line: Line) -> list[str]:
    return [
        line.name,
        _pm(line.rewards, 2),
        _kl(line),
        _pm(line.diversity, 2),
        f"{line.length:.0f}",
        f"{line.guide:.1f}",
        f"{line.time:.1f}x",
    ]


def table(lines: Sequence[Line]) -> Table:
    """One row per arm."""
    heads, *rows = cells(lines)
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for i, head in enumerate(heads):
        made.add_column(head, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def _pm(estimate: Estimate, digits: int) -> str:
    return f"{estimate.mean:.{digits}f} ± {estimate.se:.{digits}f}"


def _kl(line: Line) -> str:
    if line.kl is not None:
        return _pm(line.kl, 3)
    return "unknown" if line.kl_bound is None else f"≤ {line.kl_bound:.3f}"


def notes(outcome: Outcome, lines: Sequence[Line]) -> Text:
    """What the numbers mean, and whether the gains are real."""
    s = outcome.settings
    rows = ", ".join(f"{r.arm.name} {len(r.completions)}" for r in outcome.arms)
    about = f"""
{len(s.prompts)} prompts; responses: {rows}. Mean ± standard error over prompts.
reward: VADER's sentiment of the response, -1 to 1.
KL: exact, in nats, to the base at temperature {s.base_temperature:g}; best-of-n has no closed form,
  only the bound log n - (n - 1) / n per response.
guide: texts scored per token emitted. time: per token, against the base with as many requests.
strength: beta = {s.beta:g}.
"""
    facts = [
        about,
        *(_said(line) for line in lines if line.gain is not None),
        "\nWhat rises is VADER's score: the texts please its lexicon, and need not be better.\n",
    ]
    return Text("\n".join(facts))


def _said(line: Line) -> str:
    gain = line.gain
    assert gain is not None
    p = "" if gain.p is None else f", exact sign-flip test p = {gain.p:.3f}"
    return (
        f"{line.name} - base: {gain.difference:+.2f} ± {gain.se:.2f} "
        f"({gain.errors:.1f} standard errors, paired over {gain.n} prompts{p})"
    )


def side_by_side(outcome: Outcome) -> RenderableType:
    """The first response to the last prompt, without and with steering; not picked."""
    base = outcome.arms[0]
    steered = next(run for run in outcome.arms if run.arm.name == STEERED)
    prompt = Text(outcome.settings.prompts[-1], style="italic")
    return Group(prompt, Columns([_panel(base), _panel(steered)], equal=True, expand=True))


def _panel(run: Run) -> Panel:
    at = len(run.completions) - run.arm.n
    title = f"{run.arm.name}, reward {run.rewards[at]:+.2f}"
    return Panel(Text(run.completions[at].text.strip()), title=title, padding=(0, 1))
