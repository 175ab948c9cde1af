"""`trimtab generate`: steered text from prompts."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from trimtab.cli import options as o
from trimtab.cli.output import Writer

if TYPE_CHECKING:
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.protocols import Guide
    from trimtab.types import Prompt, Step


def generate(
    prompts: o.Prompts = None,
    file: o.File = None,
    column: o.Column = None,
    n: o.N = 1,
    max_new_tokens: o.MaxNewTokens = 128,
    stop: o.Stop = None,
    seed: o.Seed = 0,
    guide: o.Guide = None,
    reward: o.Reward = None,
    method: o.Method = None,
    beta: o.Beta = None,
    k: o.K = None,
    temperature: o.Temperature = None,
    setting: o.Set = None,
    on_guide_error: o.OnGuideError = "raise",
    model: o.Model = "smollm2",
    base_temperature: o.BaseTemperature = 1.0,
    base_top_p: o.BaseTopP = 1.0,
    device: o.Device = None,
    dtype: o.Dtype = None,
    threads: o.Threads = None,
    stream: o.Stream = False,
    as_json: o.Json = False,
    alternatives: o.Alternatives = 0,
    out: o.Out = None,
    overwrite: o.Overwrite = False,
    rows: o.Rows = 32,
) -> None:
    """Generate text, steered by a guide or a reward.

    Plain sampling from the default model:

      trimtab generate "Tell me about volcanoes."

    Steered towards positive sentiment, streamed:

      trimtab generate "Your opinion on winter?" -r sentiment -b 8 --stream

    The same from a calmer base (a small model at temperature 1 rambles):

      trimtab generate "Your opinion on winter?" -r sentiment -b 8 --base-temperature 0.7

    By the trained value that comes with the package, which plans ahead:

      trimtab generate "Your opinion on winter?" -g sentiment -b 20 -k 10 --base-temperature 0.7

    Four answers, steered a little:

      trimtab generate "Your opinion on winter?" -r sentiment -b 2 -n 4

    A function of yours, best of 16 whole responses:

      trimtab generate "A haiku." -r python:mine.py:score -m best-of-n --set n=16

    Many prompts into a file; stopped and called again, it goes on where it was:

      trimtab generate --file prompts.jsonl --guide ./my-guide -o out.jsonl

    With every token's log-probability, score and KL, for another program:

      trimtab generate --file prompts.csv --guide ./my-guide --json | my-program
    """
    from trimtab.cli.building import (
        build_guide,
        build_method,
        build_model,
        check_spelling,
        check_steering,
    )
    from trimtab.cli.inputs import read_prompts
    from trimtab.cli.outfile import check
    from trimtab.errors import UnknownNameError, UsageError, public

    if on_guide_error not in ("raise", "base"):
        raise UnknownNameError("--on-guide-error", on_guide_error, ("raise", "base"))
    if out is not None:
        if stream:
            raise UsageError("--stream prints, --out writes", got="both", do="drop one")
        check(out, overwrite=overwrite, ledger=as_json)
    asked = read_prompts(prompts or [], file, column)
    name = method or ("vas" if guide or reward else "sampling")
    parts = build_method(name, {"beta": beta, "k": k, "temperature": temperature}, setting or [])
    if (guide or reward) and not parts.guided:
        raise UsageError(
            f"--method {name} is steered by nothing",
            got=f"--guide {guide}" if guide else f"--reward {public(reward or '')}",
            do="drop it, or name a guided method, such as vas, args or best-of-n (see `trimtab "
            "methods`); `trimtab evaluate` scores texts by a reward",
        )
    check_spelling(model)
    check_steering(guide, reward)
    lm = build_model(
        model,
        device=device,
        dtype=dtype,
        threads=threads,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
    )
    steering = build_guide(lm, guide, reward)
    from trimtab.decoding.validate import check_call, encode_all

    encoded = encode_all(lm, asked)
    check_call(lm, steering, parts, encoded, n, max_new_tokens, True)  # all, before the first
    ledger = {
        "model": model,
        "method": parts.name,
        "beta": parts.beta,
        "guide": steering.name if steering else None,
        "seed": seed,
    }
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "n": n,
        "seed": seed,
        "stop": stop or [],
        "alternatives": alternatives,
        "on_guide_error": on_guide_error,
    }
    job = Job(lm, steering, parts, encoded, rows, options)
    if out is None:
        shown = ledger if as_json else None
        writer = Writer(encoded, n, stream=stream, ledger=shown, out=sys.stdout)
        _run(job, writer, bar=not stream)
        return
    from trimtab.cli.building import settings_of
    from trimtab.cli.outfile import unfinished

    settings = settings_of(lm, steering, reward, parts) | ledger | options | {"json": as_json}
    with unfinished(out, settings, encoded, n, overwrite=overwrite) as begun:
        if begun.done:
            print(f"going on after {begun.done} of {len(encoded)} prompts", file=sys.stderr)
        writer = Writer(
            encoded, n, stream=False, ledger=ledger, out=begun.out, steps=as_json, first=begun.done
        )
        _run(job, writer, bar=True)
    print(f"{len(encoded) * n} responses in {out}", file=sys.stderr)


@dataclass(frozen=True)
class Job:
    """Prompts that are decoded a few at a time.

    Attributes:
        lm: the base.
        guide: or None.
        method: how.
        prompts: encoded.
        rows: most responses side by side.
        options: of `decode_steps`.
    """

    lm: TransformersLM
    guide: Guide[Any] | None
    method: Method
    prompts: Sequence[Prompt]
    rows: int
    options: dict[str, Any]

    @property
    def n(self) -> int:
        """Responses per prompt."""
        n: int = self.options["n"]
        return n

    @property
    def budget(self) -> int:
        """Most tokens of a response."""
        budget: int = self.options["max_new_tokens"]
        return budget

    def batches(self, first: int = 0) -> Iterator[Iterator[Step]]:
        """The steps of each batch, from a prompt on, as if all were one call.

        No text depends on its batch: every draw is counted from the prompt itself, and from how
        many of its samples came before.
        """
        size, n = max(1, self.rows // self.n), min(self.rows, self.n)
        drawn = Counter(prompt.ids for prompt in self.prompts[:first])
        for at in range(first, len(self.prompts), size):
            prompts = self.prompts[at : at + size]
            before = [drawn[prompt.ids] * self.n for prompt in prompts]
            for sample in range(0, self.n, n):
                drawn_here = [count + sample for count in before]
                more = {"n": min(n, self.n - sample), "drawn": drawn_here, "first_prompt": at}
                yield self._steps(at * self.n + sample, prompts, more)
            drawn.update(prompt.ids for prompt in prompts)

    def _steps(self, row: int, prompts: Sequence[Prompt], more: dict[str, Any]) -> Iterator[Step]:
        from trimtab.decoding.loop import decode_steps

        options = self.options | more
        for step in decode_steps(self.lm, self.guide, self.method, prompts, **options):
            yield replace(step, row=step.row + row)


def _run(job: Job, writer: Writer, *, bar: bool) -> None:
    """Moves steps to the writer, with a bar where nothing else moves on the screen."""
    import io
    from contextlib import nullcontext

    from trimtab.cli.output import progress, summary

    rows, first = len(job.prompts) * job.n, writer.row
    shown: tuple[Any, Any] = (nullcontext(), lambda done: None)
    if bar:
        shown = progress(rows * job.budget, f"{rows} responses" if rows > 1 else "generating")
        shown[1](first * job.budget)
    both = bar and sys.stdout.isatty() and writer.out is sys.stdout
    begun, used = time.perf_counter(), defaultdict[int, int](int)
    for steps in job.batches(first // job.n):
        held = io.StringIO()
        if both:
            writer.out = held  # on one screen, the text comes when the bar has gone
        try:
            with shown[0]:
                for step in steps:
                    writer.push(step)
                    used[step.row] += len(step.tokens)
                    ended = job.budget - used[step.row] if step.finish else 0
                    shown[1](len(step.tokens) + ended)
        finally:
            print(held.getvalue(), end="", flush=both)
    if sys.stderr.isatty() and writer.totals.tokens:
        print(summary(writer.totals, time.perf_counter() - begun), file=sys.stderr)
