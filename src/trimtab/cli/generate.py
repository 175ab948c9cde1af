"""`trimtab generate`: steered text from prompts."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, cast

from trimtab.cli import options as o

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trimtab.cli.output import Writer
    from trimtab.types import Step


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

    Many prompts, with every token's log-probability, score and KL:

      trimtab generate --file prompts.jsonl --guide ./my-guide --json > out.jsonl
    """
    from trimtab.cli.building import build_guide, build_method, build_model
    from trimtab.cli.inputs import read_prompts
    from trimtab.cli.output import Writer
    from trimtab.errors import UnknownNameError

    if on_guide_error not in ("raise", "base"):
        raise UnknownNameError("--on-guide-error", on_guide_error, ("raise", "base"))
    asked = read_prompts(prompts or [], file, column)
    name = method or ("vas" if guide or reward else "sampling")
    parts = build_method(name, {"beta": beta, "k": k, "temperature": temperature}, setting or [])
    lm = build_model(
        model,
        device=device,
        dtype=dtype,
        threads=threads,
        base_temperature=base_temperature,
        base_top_p=base_top_p,
    )
    steering = build_guide(lm, guide, reward)
    encoded = [lm.encode(prompt) for prompt in asked]
    ledger = {
        "model": model,
        "method": parts.name,
        "beta": parts.beta,
        "guide": steering.name if steering else None,
        "seed": seed,
    }
    writer = Writer(encoded, n, stream=stream, ledger=ledger if as_json else None, out=sys.stdout)
    from trimtab.decoding.loop import decode_steps

    steps = decode_steps(
        lm,
        steering,
        parts,
        encoded,
        max_new_tokens=max_new_tokens,
        n=n,
        seed=seed,
        stop=stop or (),
        alternatives=alternatives,
        on_guide_error=cast("Literal['raise', 'base']", on_guide_error),
    )
    _run(steps, writer, max_new_tokens, bar=not stream)


def _run(steps: Iterable[Step], writer: Writer, budget: int, *, bar: bool) -> None:
    """Moves steps to the writer, with a bar where nothing else moves on the screen."""
    import io
    from contextlib import nullcontext

    from trimtab.cli.output import progress, summary

    rows = len(writer.prompts) * writer.n
    shown: tuple[Any, Any] = (nullcontext(), lambda done: None)
    if bar:
        shown = progress(rows * budget, f"{rows} responses" if rows > 1 else "generating")
    held = io.StringIO()
    if bar and sys.stdout.isatty():
        writer.out = held  # on one screen, the text comes when the bar has gone
    begun, used = time.perf_counter(), dict.fromkeys(range(rows), 0)
    try:
        with shown[0]:
            for step in steps:
                writer.push(step)
                used[step.row] += len(step.tokens)
                ended = budget - used[step.row] if step.finish else 0
                shown[1](len(step.tokens) + ended)
    finally:
        print(held.getvalue(), end="")
    if sys.stderr.isatty() and writer.done:
        print(summary(writer.done, time.perf_counter() - begun), file=sys.stderr)
