"""`trimtab demo`: steering seen on a real model, in a few minutes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from trimtab.demo.running import Demo, Outcome

PICTURE, PAGE = "reward-against-kl.png", "tokens.html"


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for the picture and the page.")
    ] = Path("trimtab-demo"),
    seed: Annotated[int, typer.Option(help="The same seed gives the same texts.")] = 0,
    beta: Annotated[
        float, typer.Option("--beta", "-b", help="Of the reward read on prefixes.")
    ] = 8.0,
    value_beta: Annotated[float, typer.Option(help="Of the trained value.")] = 20.0,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest response, in tokens.")] = 36,
    prompts: Annotated[int, typer.Option(min=2, max=8, help="How many topics to ask about.")] = 8,
    samples: Annotated[int, typer.Option(min=1, help="Responses per prompt.")] = 8,
    model: Annotated[str, typer.Option(help="As for `trimtab generate`.")] = "smollm2",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ... Default: the best.")] = None,
    threads: Annotated[
        int, typer.Option(min=1, help="CPU threads; more help only where cores are idle.")
    ] = 1,
) -> None:
    """Steer a small model towards positive sentiment, four ways, and show what each costs.

    Best-of-n and ARGS ask the reward itself; VAS asks a value that was trained to foresee it.

    Prints a table and two completions, and writes a picture and a page. It needs the model
    (trimtab assets fetch smollm2) and takes under four minutes on two CPU cores. For a quick look:

      trimtab demo --prompts 2 --samples 2 --max-new-tokens 16
    """
    from rich.console import Console

    from trimtab.cli.building import build_model
    from trimtab.demo.plot import check_matplotlib
    from trimtab.demo.running import Demo
    from trimtab.demo.settings import TOPICS, Settings
    from trimtab.guides import load_guide
    from trimtab.rewards.sentiment import sentiment

    check_matplotlib()
    sentiment([], [""])  # says now, and not minutes later, that its package is missing
    settings = Settings(
        topics=TOPICS[-prompts:],
        n=samples,
        best_n=min(samples, Settings.best_n),
        sweep_n=min(samples, Settings.sweep_n),
        max_new_tokens=max_new_tokens,
        beta=beta,
        value_beta=value_beta,
        seed=seed,
    )
    lm = build_model(
        model, device=device, threads=threads, base_temperature=settings.base_temperature
    )
    outcome = _run(Demo(lm, load_guide("sentiment", lm=lm), settings))
    _show(outcome, out, Console())


def _run(demo: Demo) -> Outcome:
    """With a bar where a person is looking."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Eta

    meter = demo.meter

    class Bar(Progress):
        """Asks the meter each time it is drawn: best-of-n says nothing until it is through."""

        def get_renderables(self) -> Iterable[RenderableType]:
            for task in self.tasks:
                self.update(task.id, completed=meter.done, description=meter.label)
            yield from super().get_renderables()

    console = Console(stderr=True)
    columns = TextColumn("{task.description:<30}"), BarColumn(), TimeElapsedColumn(), Eta()
    bar = Bar(*columns, console=console, transient=True, disable=not console.is_terminal)
    bar.add_task("", total=meter.total)
    with bar:
        return demo.run()


def _show(outcome: Outcome, out: Path, console: Console) -> None:
    """Prints the report and writes the files, each whole or not at all."""
    from trimtab.demo.page import page
    from trimtab.demo.plot import picture
    from trimtab.demo.results import lines
    from trimtab.demo.table import report
    from trimtab.files import write_atomic

    found = lines(outcome)
    console.print(report(outcome, found), highlight=False)
    for name, data in ((PICTURE, picture(outcome)), (PAGE, page(outcome, found))):
        console.print(f"wrote {write_atomic(out / name, data)}", soft_wrap=True, highlight=False)
