"""The table and two completions, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

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
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
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
    counts = ", ".join(f"{r.arm.name} {len(r.completions)}" for r in outcome.arms)
    about = f"""
mean ± standard error (SE) over {len(s.prompts)} prompts
ARGS         guided by the reward itself, read on prefixes; beta = {s.beta:g}
VAS          guided by a trained value (--guide sentiment); beta = {s.value_beta:g}
responses    {counts}
reward       VADER's sentiment of the response, -1 to 1
KL/token     exact, in nats, to the base at temperature {s.base_temperature:g}; best-of-n has
             no closed form, only the bound log n - (n - 1) / n per response
guide/token  texts (ARGS) or tokens (VAS) that the guide reads per token emitted
time         per token, against the base with as many requests

gain over the base, paired by prompt (n = {len(s.prompts)}; p: exact sign-flip test, two-sided)"""
    gains = [_said(line) for line in lines if line.gain is not None]
    caveat = "What rises is VADER's score: texts please its lexicon, and need not be better."
    return Text("\n".join([about, *gains, "", caveat, ""]))


def _said(line: Line) -> str:
    gain = line.gain
    assert gain is not None
    p = "" if gain.p is None else f", p = {gain.p:.3f}"
    difference = f"{gain.difference:+.2f} ± {gain.se:.2f}"
    return f"  {line.name:<16} {difference} = {gain.errors:.1f} SE{p}"


def side_by_side(outcome: Outcome) -> RenderableType:
    """The base's response and a steered one, of the pair with the median gain."""
    base = outcome.arms[0]
    steered = next(run for run in outcome.arms if run.arm.name == STEERED)
    gains = [b - a for a, b in zip(base.rewards, steered.rewards, strict=True)]
    at = sorted(range(len(gains)), key=lambda i: gains[i])[len(gains) // 2]
    grid = Table.grid(expand=True, padding=(0, 1))
    for _ in "ab":
        grid.add_column(ratio=1)
    grid.add_row(_panel(base, at), _panel(steered, at))
    return Group(Text(f"{base.prompts[at]} (the pair with the median gain)", "italic"), grid)


def _panel(run: Run, at: int) -> Panel:
    title = f"{run.arm.name}, reward {run.rewards[at]:+.2f}"
    return Panel(Text(run.completions[at].text.strip()), title=title, padding=(0, 1))
