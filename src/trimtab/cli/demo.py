"""`trimtab demo`: steering seen on a real model, in a few minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from trimtab.cli.evaluate import show_counts, show_table
from trimtab.cli.options import BASE, Count, ModelOptions, OutputOptions
from trimtab.cli.screen import Pace, progress


def demo(
    *,
    out: Annotated[Path, Parameter(alias="-o")] = Path("trimtab-demo"),
    seed: int = 0,
    max_new_tokens: Count = 36,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=2, lte=8))] = 8,
    n: Annotated[Count, Parameter(alias="-n")] = 4,
    output: OutputOptions = OutputOptions(),
    model: Annotated[str, Parameter(group=BASE)] = "smollm2",
    device: Annotated[str | None, Parameter(group=BASE)] = None,
    threads: Annotated[Count, Parameter(group=BASE)] = 1,
) -> None:
    """Steer a small model towards positive sentiment, four ways, and show what each costs.

    Best-of-n and ARGS ask the reward itself; VAS asks a value that was trained to foresee it.

    Prints a table and two completions, and writes a page with pictures. It needs the model
    (trimtab assets fetch smollm2) and takes some minutes on two CPU cores; what was decoded is
    kept, so an interrupted one goes on where it stopped. For a quick look:

      trimtab demo --limit 2 -n 2 --max-new-tokens 16

    Args:
        out: Folder of the results; the page is in its folder `report`.
        seed: The same seed gives the same texts.
        max_new_tokens: Longest response, in tokens.
        limit: How many topics to ask about.
        n: Responses per prompt of each method that samples.
        model: As for `trimtab generate`.
        device: cpu, cuda, ...; default: the best.
        threads: CPU threads; more help only where cores are idle.
    """
    from trimtab.evaluation.demo import BASE_TEMPERATURE, TOPICS, Demo
    from trimtab.evaluation.report import write
    from trimtab.plugins import optional

    optional("matplotlib", "demo", user="the demonstration's picture")  # said before the work
    optional("scipy", "demo", user="the demonstration's table")
    preset = Demo(TOPICS[-limit:], n=n, max_new_tokens=max_new_tokens, seed=seed)
    options = ModelOptions(
        model=model, device=device, threads=threads, base_temperature=BASE_TEMPERATURE
    )
    lm = options.open()
    with progress("steering", quiet=output.quiet) as meter:
        result = preset.run(lm, out, Pace(meter))
    if output.json:
        print(result.table.to_json(), end="")
    else:
        show_table(result.table)
        print("\n".join(_words(out)))
    (page, *_) = write.report(out)
    show_counts(result, out, output)
    if not output.json and not output.quiet:
        print(f"wrote {page}", file=sys.stderr)


def _words(folder: Path) -> Iterator[str]:
    """What the table says, and the base's answer beside the best method's to one prompt."""
    from trimtab.evaluation.report.reading import Texts, read_results
    from trimtab.evaluation.report.samples import comparisons
    from trimtab.evaluation.report.sentences import facts

    sheet, texts = read_results(folder).head, Texts(folder)
    for fact in facts(sheet, texts):
        yield f"\n{fact.question} {fact.answer}\n  {fact.words}"
    first, best = comparisons(sheet, texts)[0], sheet.best
    yield f"\n{first.prompt}"
    for answer in first.answers:
        if answer.method in (sheet.baseline.name, best and best.name):
            yield f"\n{answer.method}, reward {answer.reward:+.2f}\n  {answer.text}"
