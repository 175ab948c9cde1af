"""`trimtab demo`: steering seen on a real model, in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, validators

from trimtab.cli.options import BASE, Count, ModelOptions, OutputOptions
from trimtab.cli.screen import print_json, progress

if TYPE_CHECKING:
    from trimtab.demo.running import Outcome

PICTURE, PAGE = "reward-against-kl.png", "tokens.html"


def demo(
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("trimtab-demo"),
    seed: int = 0,
    beta: Annotated[float, Parameter(alias="-b")] = 8.0,
    value_beta: float = 20.0,
    max_new_tokens: Count = 36,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=2, lte=8))] = 8,
    n: Annotated[Count, Parameter(alias="-n")] = 8,
    output: OutputOptions = OutputOptions(),
    model: Annotated[str, Parameter(group=BASE)] = "smollm2",
    device: Annotated[str | None, Parameter(group=BASE)] = None,
    threads: Annotated[Count, Parameter(group=BASE)] = 1,
) -> None:
    """Steer a small model towards positive sentiment, four ways, and show what each costs.

    Best-of-n and ARGS ask the reward itself; VAS asks a value that was trained to foresee it.

    Prints a table and two completions, and writes a picture and a page. It needs the model
    (trimtab assets fetch smollm2) and takes under four minutes on two CPU cores. For a quick look:

      trimtab demo --limit 2 -n 2 --max-new-tokens 16

    Args:
        out: Folder for the picture and the page.
        seed: The same seed gives the same texts.
        beta: Of the reward read on prefixes.
        value_beta: Of the trained value.
        max_new_tokens: Longest response, in tokens.
        limit: How many topics to ask about.
        n: Responses per prompt.
        model: As for `trimtab generate`.
        device: cpu, cuda, ...; default: the best.
        threads: CPU threads; more help only where cores are idle.
    """
    from trimtab.demo.plot import check_matplotlib
    from trimtab.demo.running import Demo
    from trimtab.demo.settings import TOPICS, Settings
    from trimtab.guides import load_guide
    from trimtab.rewards.sentiment import sentiment

    check_matplotlib()
    sentiment([], [""])  # says now, and not minutes later, that its package is missing
    settings = Settings(
        topics=TOPICS[-limit:],
        n=n,
        best_n=min(n, Settings.best_n),
        sweep_n=min(n, Settings.sweep_n),
        max_new_tokens=max_new_tokens,
        beta=beta,
        value_beta=value_beta,
        seed=seed,
    )
    shape = settings.base_temperature
    options = ModelOptions(model=model, device=device, threads=threads, base_temperature=shape)
    lm = options.open()
    work = Demo(lm, load_guide("sentiment", lm=lm), settings)
    with progress("steering", quiet=output.quiet):
        outcome = work.run()
    _show(outcome, out, output)


def _show(outcome: Outcome, out: Path, output: OutputOptions) -> None:
    """Prints the report and writes the files, each whole or not at all."""
    from rich.console import Console

    from trimtab.demo.page import page
    from trimtab.demo.plot import picture
    from trimtab.demo.results import lines
    from trimtab.demo.table import report
    from trimtab.files import write_atomic

    found, console = lines(outcome), Console()
    if output.json:
        print_json([vars(line) for line in found])
    else:
        console.print(report(outcome, found), highlight=False)
    for name, data in ((PICTURE, picture(outcome)), (PAGE, page(outcome, found))):
        path = write_atomic(out / name, data)
        if not output.json and not output.quiet:
            console.print(f"wrote {path}", soft_wrap=True, highlight=False)
