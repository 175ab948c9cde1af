"""A page that tints every token by the score of the text so far. One file, no network, no script.

Blue is positive and orange negative, so that red-green blindness does not hide it; the tint's
strength is the score's size, on light and on dark grounds alike.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from string import Template

from trimtab.demo.results import Line
from trimtab.demo.running import Outcome, Trace
from trimtab.demo.table import cells

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>trimtab: tokens and their scores</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --ground: #ffffff; --soft: #5b6470;
  --line: #d8dde3; --up: 0 114 178; --down: 213 94 0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --ground: #15181c; --soft: #9aa4b0; --line: #333a42;
    --up: 66 165 232; --down: 240 133 54; } }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p.note, figcaption { color: var(--soft); font-size: .875rem; }
.arms { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr));
  gap: .75rem; }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
h3 { font-size: .875rem; margin: 0 0 .3rem; display: flex; justify-content: space-between; }
h3 span { font-weight: 400; color: var(--soft); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; }
i { font-style: normal; padding: .1em 0; background: rgb(var(--c) / var(--a)); }
.legend { display: flex; align-items: center; gap: .5rem; font-size: .875rem; margin: 1rem 0; }
.bar { flex: 0 1 16rem; height: .9rem; border: 1px solid var(--line); border-radius: .2rem;
  background: linear-gradient(90deg, rgb(var(--down) / .65), rgb(var(--down) / 0) 50%,
  rgb(var(--up) / 0) 50%, rgb(var(--up) / .65)); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
</style>
</head>
<body>
<h1>Each token, tinted by the score of the text so far</h1>
<p>SmolLM2-135M-Instruct answers $count prompts. The score is VADER's sentiment of the response up
to and including the token: what steers ARGS while it decodes, and what picks the best of n
afterwards. VAS is steered by a trained value, which knew what was coming. Strengths: beta = $beta
and $value.</p>
<div class="legend" role="img" aria-label="orange is negative, blue is positive">
<span>&minus;1</span><div class="bar"></div><span>+1</span></div>
<div class="wide"><table>
$table
</table></div>
<p class="note">Mean &plusmn; standard error over prompts. Below, the first response of each way of
decoding to each prompt; none is picked. Seed $seed.</p>
$prompts
</body>
</html>
""")


def page(outcome: Outcome, lines: Sequence[Line]) -> str:
    """The whole page."""
    s = outcome.settings
    return _PAGE.substitute(
        count=len(s.prompts),
        beta=f"{s.beta:g}",
        value=f"{s.value_beta:g}",
        seed=s.seed,
        table=_table(lines),
        prompts="\n".join(_prompt(outcome, i) for i in range(len(s.prompts))),
    )


def _table(lines: Sequence[Line]) -> str:
    heads, *rows = cells(lines)
    body = "\n".join(_row("td", row) for row in rows)
    return f"<thead>{_row('th', heads)}</thead>\n<tbody>\n{body}\n</tbody>"


def _row(cell: str, values: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{cell}>{html.escape(v)}</{cell}>' for v in values)}</tr>"


def _prompt(outcome: Outcome, index: int) -> str:
    """One prompt with the first response of every arm."""
    articles = [
        f"<article><h3>{html.escape(run.arm.name)} "
        f"<span>{run.rewards[index * run.arm.n]:+.2f}</span></h3>"
        f'<div class="text">{_tokens(outcome.traces[run.arm.name][index])}</div></article>'
        for run in outcome.arms
    ]
    title, inner = html.escape(outcome.settings.prompts[index]), "\n".join(articles)
    return f'<section><h2>{title}</h2>\n<div class="arms">\n{inner}\n</div></section>'


def _tokens(trace: Trace) -> str:
    return "".join(tinted(piece, score) for piece, score in trace).strip()


def tinted(text: str, score: float) -> str:
    """A token on its tint.

    >>> tinted(" good", 0.5)
    '<i style="--c:var(--up);--a:.33" title="+0.50"> good</i>'
    """
    if round(abs(score), 2) == 0:
        return html.escape(text)
    side = "up" if score > 0 else "down"
    alpha = f"{min(abs(score), 1.0) * 0.65:.2f}".lstrip("0")
    return f'<i style="--c:var(--{side});--a:{alpha}" title="{score:+.2f}">{html.escape(text)}</i>'
