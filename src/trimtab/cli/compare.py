"""`trimtab generate --compare`: the base, the steered model and best-of-n, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trimtab.cli.options import OutputOptions
from trimtab.cli.screen import print_json
from trimtab.errors import UsageError

if TYPE_CHECKING:
    from trimtab.cli.generate import Job
    from trimtab.runs.resolve import GuideSource
    from trimtab.types import Completion

WIDE = 100
"""Columns of a screen on which three texts can be read beside each other."""


@dataclass(frozen=True)
class Compared:
    """One method's response to one prompt.

    Attributes:
        label: of the method.
        answer: the response.
        scores: by reward.
        kl: KL(pi || pi_ref) of the response, in nats; of best-of-n its bound, log n - (n - 1) / n.
        bound: whether it is the bound.
    """

    label: str
    answer: Completion
    scores: Mapping[str, float | None]
    kl: float | None
    bound: bool = False

    @property
    def facts(self) -> str:
        """Rewards, KL, length, and whether it was cut, in one line."""
        shown = [f"{k} {'none' if v is None else f'{v:.3f}'}" for k, v in self.scores.items()]
        if self.kl is not None:
            shown.append(f"KL {'<= ' if self.bound else ''}{self.kl:.2f}")
        shown.append(f"{len(self.answer.tokens)} tokens")
        return ", ".join([*shown, *(["cut"] if self.answer.finish == "length" else [])])

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "method": self.label,
            "text": self.answer.text,
            "rewards": dict(self.scores),
            "kl": self.kl,
            "kl_is_bound": self.bound,
            "tokens": len(self.answer.tokens),
            "finish": self.answer.finish,
        }


def show_compared(job: Job, guide: GuideSource | None, n: int, output: OutputOptions) -> None:
    """Decode each prompt by the base, by the job's method and by best-of-n, and print the three.

    Args:
        job: the steered one.
        guide: what steers it.
        n: of best-of-n, which picks by the first reward, else by the guide.
        output: JSON or text.

    Raises:
        UsageError: nothing steers, or several responses per prompt are asked for.
    """
    from trimtab.decoding.methods import best_of_n, sampling
    from trimtab.runs.resolve import GuideSource

    if guide is None or job.guide is None:
        raise UsageError("--compare shows what a guide changes", got="no guide", do="add --guide")
    if job.options["n"] != 1:
        raise UsageError("--compare shows one response of each", got="--n", do="drop it")
    picker = GuideSource.on_prefixes(job.scorers[0]).open(job.lm) if job.scorers else job.guide
    trials = (
        ("base", sampling(), None, 1),
        (job.method.name, job.method, job.guide, 1),
        (f"best-of-{n}", best_of_n(n), picker, n),
    )
    columns = [
        _decoded(replace(job, method=method, guide=beside, rows=max(1, job.rows // draws)), label,
                 draws, output.quiet)
        for label, method, beside, draws in trials
    ]  # fmt: skip
    for index, answers in enumerate(zip(*columns, strict=True)):
        if output.json:
            for one in answers:
                prompt = job.prompts[index].text
                print_json({"index": index, "prompt": prompt, **one.as_dict()}, indent=None)
        else:
            _show(f"prompt {index + 1}" if len(job.prompts) > 1 else "", answers)


def _decoded(job: Job, label: str, draws: int, quiet: bool) -> list[Compared]:
    from trimtab.decoding.validate import check_call

    budget = job.options["max_new_tokens"]
    check_call(job.lm, job.guide, job.method, job.prompts, 1, budget, True)
    compared = list[Compared]()
    for answers, scores in job.answers(label=label, quiet=quiet):
        for answer, score in zip(answers, scores, strict=True):
            kl = math.log(draws) - (draws - 1) / draws if draws > 1 else answer.kl
            compared.append(Compared(label, answer, score, kl, bound=draws > 1))
    return compared


def _show(title: str, answers: Sequence[Compared]) -> None:
    """In columns where the screen is wide enough, else one below the other."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if title:
        console.print(f"--- {title} ---", markup=False)
    if console.width < WIDE:
        for one in answers:
            console.print(Text(f"{one.label}: {one.facts}", style="bold"), soft_wrap=True)
            console.print(Text(one.answer.text.strip()), "", soft_wrap=True)
        return
    table = Table(*(one.label for one in answers), box=None, expand=True, padding=(0, 2, 0, 0))
    table.add_row(*(Text(one.answer.text.strip()) for one in answers))
    table.add_row(*(Text(one.facts, style="dim") for one in answers))
    console.print(table, "")
