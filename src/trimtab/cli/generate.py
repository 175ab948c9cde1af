"""`trimtab generate`: steered text from prompts."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Parameter, validators

from trimtab.cli.options import (
    OUTPUT,
    PROMPTS,
    RUN,
    STEERING,
    Count,
    MethodOptions,
    ModelOptions,
    Names,
    OutputOptions,
    PromptOptions,
    settings,
)
from trimtab.cli.prompts import read_prompts
from trimtab.errors import UsageError, public

if TYPE_CHECKING:
    from trimtab.cli.answers import Writer
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.protocols import Guide
    from trimtab.runs.resolve import Scorer
    from trimtab.types import Completion, Prompt, Sample, Step


Answers: TypeAlias = "Iterator[tuple[list[Completion], list[dict[str, float | None]]]]"


def generate(
    *prompt: Annotated[str, Parameter(show_default=False)],
    source: PromptOptions = PromptOptions(),
    system: Annotated[str | None, Parameter(group=PROMPTS)] = None,
    steering: MethodOptions = MethodOptions(),
    temperature: Annotated[
        float | None, Parameter(alias="-t", validator=validators.Number(gte=0), group=STEERING)
    ] = None,
    on_guide_error: Annotated[Literal["raise", "base"], Parameter(group=STEERING)] = "raise",
    n: Annotated[Count, Parameter(alias="-n", group=RUN)] = 1,
    max_new_tokens: Annotated[Count, Parameter(group=RUN)] = 128,
    stop: Annotated[tuple[str, ...], Parameter(group=RUN)] = (),
    seed: Annotated[int, Parameter(group=RUN)] = 0,
    rows: Annotated[Count, Parameter(group=RUN)] = 32,
    reward: Annotated[Names, Parameter(alias="-r", group=OUTPUT)] = (),
    compare: Annotated[bool, Parameter(negative="", group=OUTPUT)] = False,
    best_of: Annotated[Count, Parameter(group=OUTPUT)] = 8,
    stream: Annotated[bool, Parameter(alias="-s", negative="", group=OUTPUT)] = False,
    alternatives: Annotated[int, Parameter(validator=validators.Number(gte=0), group=OUTPUT)] = 0,
    out: Annotated[Path | None, Parameter(alias="-o", group=OUTPUT)] = None,
    overwrite: Annotated[bool, Parameter(negative="", group=OUTPUT)] = False,
    output: OutputOptions = OutputOptions(),
    model: ModelOptions = ModelOptions(),
) -> None:
    """Generate text, steered by a guide or a reward.

    Plain sampling from the default model:

      trimtab generate "Tell me about volcanoes."

    Steered towards positive sentiment by the trained value that comes with the package:

      trimtab generate "What do you think of rainy days? Answer in one sentence." \
        -g sentiment -b 8 -k 10 --base-temperature 0.7

    The same by the reward itself, read on every prefix, and streamed:

      trimtab generate "Your opinion on winter?" -g reward:sentiment -b 8 --base-temperature 0.7 -s

    The base, the steered model and best-of-8 side by side, with rewards and KL:

      trimtab generate "What do you think of rainy days? Answer in one sentence." \
        -g sentiment -b 8 -k 10 --base-temperature 0.7 -r sentiment --compare

    A function of yours, best of 16 whole responses:

      trimtab generate "A haiku." -g mine.py:score -m best-of-n --set n=16

    Many prompts into a file; stopped and called again, it goes on where it was:

      trimtab generate --prompts prompts.jsonl -g ./my-guide -r mine.py:score -o out.jsonl

    With every token's log-probability, score and KL, for another program:

      trimtab generate --prompts prompts.csv -g ./my-guide --json | my-program

    Args:
        prompt: One or more prompts; none, or -, reads all of stdin as one prompt.
        system: What the model is told before each prompt.
        temperature: After steering; 0 is greedy.
        on_guide_error: A score that is not a number: raise, or base to go on unsteered.
        n: Responses per prompt.
        max_new_tokens: Longest response, in tokens.
        stop: End at this text; may repeat.
        seed: The same seed gives the same text.
        rows: Responses decoded side by side. More takes memory; no text depends on it.
        reward: What scores the finished texts; may repeat. See `trimtab evaluate --help`.
        compare: Show base, steered and best-of-n answers side by side.
        best_of: The n of --compare.
        stream: Print text as it comes.
        alternatives: Likeliest candidates per token in --json.
        out: A .jsonl, .csv or .parquet of responses, with their figures (of a .jsonl with --json
            also the token ledger). Stopped and called again, it goes on where it was.
        overwrite: Replace --out, or what was begun of it.
    """
    from trimtab.cli import outfile

    _check_output(out, stream, compare, reward)
    if out is not None:
        outfile.check(out, overwrite=overwrite, ledger=output.json)
    samples = read_prompts(prompt, source, system)
    method = find_one_method(steering, temperature)
    from trimtab.runs.resolve import find_guide, find_reward, guide_kind

    if steering.guide is not None:
        guide_kind(steering.guide)  # a name that cannot be meant is said before anything is loaded
    scorers = [find_reward(name) for name in reward]
    lm = model.open()
    guide = find_guide(steering.guide, lm) if steering.guide is not None else None
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "n": n,
        "seed": seed,
        "stop": list(stop),
        "alternatives": alternatives,
        "on_guide_error": on_guide_error,
    }
    from trimtab.decoding.validate import check_call, encode_all

    prompts = encode_all(lm, [sample.prompt for sample in samples])
    beside = guide.open(lm) if guide is not None else None
    job = Job(lm, beside, method, prompts, samples, scorers, rows, options)
    if compare:
        from trimtab.cli.compare import show_compared

        show_compared(job, guide, best_of, output)
        return
    check_call(lm, beside, method, prompts, n, max_new_tokens, True)  # all, before the first
    from trimtab.cli.answers import Writer

    ledger = {
        "model": model.model,
        "method": method.name,
        "beta": method.beta,
        "guide": guide.name if guide else None,
        "seed": seed,
    }
    if out is None:
        writer = Writer(n, len(prompts), sys.stdout, ledger if output.json else None)
        job.stream(writer) if stream else job.run(writer, quiet=output.quiet)
        return
    facts = outfile.settings_of(lm, method, guide, scorers) | ledger | options
    with outfile.unfinished(
        out, facts | {"json": output.json}, prompts, n, overwrite=overwrite
    ) as begun:
        if begun.done and not output.quiet:
            print(f"going on after {begun.done} of {len(prompts)} prompts", file=sys.stderr)
        writer = Writer(n, len(prompts), begun.out, ledger, steps=output.json)
        job.run(writer, first=begun.done, quiet=output.quiet)
    if not output.quiet:
        print(f"{len(prompts) * n} responses in {out}", file=sys.stderr)


def _check_output(out: Path | None, stream: bool, compare: bool, rewards: Sequence[str]) -> None:
    pairs = (
        (stream and out is not None, "--stream prints, --out writes"),
        (stream and bool(rewards), "--stream prints parts of texts, --reward scores whole ones"),
        (stream and compare, "--stream prints one text at a time, --compare several"),
        (compare and out is not None, "--compare prints, --out writes"),
    )
    for both, must in pairs:
        if both:
            raise UsageError(must, got="both", do="drop one")


def find_one_method(given: MethodOptions, temperature: float | None = None) -> Method:
    """The method that was named, or the usual one: vas with a guide, else sampling.

    Raises:
        UsageError: a guide beside a method that needs none.
    """
    from trimtab.runs.resolve import find_method

    name = given.method or ("vas" if given.guide else "sampling")
    named = {"beta": given.beta, "k": given.k, "temperature": temperature}
    parameters = {key: value for key, value in named.items() if value is not None}
    parameters |= {key: values[-1] for key, values in settings(given.set_).items()}
    if name == "sampling" and parameters.get("temperature") == 0:
        return find_method("greedy")
    method = find_method(name, **parameters)
    if given.guide and not method.guided:
        raise UsageError(
            f"--method {name} is steered by nothing",
            got=f"--guide {public(given.guide)}",
            do="drop it, or name a guided method, such as vas, args or best-of-n (see `trimtab "
            "methods`)",
        )
    return method


@dataclass(frozen=True)
class Job:
    """Prompts that are decoded a few at a time, and scored.

    Attributes:
        lm: the base.
        guide: or None.
        method: how.
        prompts: encoded.
        samples: the same, as rewards see them.
        scorers: what scores the finished texts.
        rows: most responses side by side.
        options: of `decode_steps`.
    """

    lm: TransformersLM
    guide: Guide[Any] | None
    method: Method
    prompts: Sequence[Prompt]
    samples: Sequence[Sample]
    scorers: Sequence[Scorer]
    rows: int
    options: Mapping[str, Any]

    def batches(self, first: int = 0) -> Iterator[Iterator[Step]]:
        """The steps of each batch, from a prompt on, as if all were one call.

        No text depends on its batch: every draw is counted from the prompt itself, and from how
        many of its samples came before.
        """
        total: int = self.options["n"]
        size, n = max(1, self.rows // total), min(self.rows, total)
        drawn = Counter(prompt.ids for prompt in self.prompts[:first])
        for at in range(first, len(self.prompts), size):
            prompts = self.prompts[at : at + size]
            before = [drawn[prompt.ids] * total for prompt in prompts]
            for sample in range(0, total, n):
                counts = [count + sample for count in before]
                more = {"n": min(n, total - sample), "drawn": counts, "first_prompt": at}
                yield self._steps(at * total + sample, prompts, more)
            drawn.update(prompt.ids for prompt in prompts)

    def _steps(self, row: int, prompts: Sequence[Prompt], more: dict[str, Any]) -> Iterator[Step]:
        from trimtab.decoding.loop import decode_steps

        options: Any = {**self.options, **more}
        for step in decode_steps(self.lm, self.guide, self.method, prompts, **options):
            yield replace(step, row=step.row + row)

    def answers(self, *, first: int = 0, label: str = "generating", quiet: bool = False) -> Answers:
        """Each batch's responses with their scores, with a bar while they are decoded."""
        from trimtab.cli.screen import on_screen, progress

        n, budget = self.options["n"], self.options["max_new_tokens"]
        total, done = len(self.prompts) * n * budget, first * n * budget
        with progress(label, quiet=quiet) as meter:
            for steps in self.batches(first):
                grown: dict[int, list[Step]] = defaultdict(list)
                for step in steps:
                    grown[step.row].append(step)
                    used = sum(len(s.tokens) for s in grown[step.row]) if step.finish else 0
                    done += len(step.tokens) + (budget - used if step.finish else 0)
                    meter(done, total)
                answers = [self.completion(row, grown[row]) for row in sorted(grown)]
                scores = self.scores(answers, min(grown))
                with meter.hidden() if on_screen() else nullcontext():
                    yield answers, scores

    def completion(self, row: int, steps: Sequence[Step]) -> Completion:
        """The response of a row whose steps are all there."""
        from trimtab.decoding.loop import completion

        n: int = self.options["n"]
        return completion(self.prompts[row // n], row % n, steps)

    def scores(self, answers: Sequence[Completion], row: int) -> list[dict[str, float | None]]:
        """What each reward says of responses from a row on; None where it cannot say."""
        from trimtab.rewards import ask

        n = self.options["n"]
        samples = [self.samples[(row + i) // n] for i in range(len(answers))]
        scores = list[dict[str, float | None]]({} for _ in answers)
        for scorer in self.scorers:
            values = ask(scorer.function, samples, [answer.text for answer in answers])
            for entry, value in zip(scores, values, strict=True):
                if isinstance(value, str):
                    print(f"warning: {scorer.name} of a response: {value}", file=sys.stderr)
                entry[scorer.name] = None if isinstance(value, str) else value
        return scores

    def run(self, writer: Writer, *, first: int = 0, quiet: bool = False) -> None:
        """Decodes batch after batch and hands each to the writer."""
        began, n = time.perf_counter(), self.options["n"]
        writer.row = first * n
        for answers, scores in self.answers(first=first, quiet=quiet):
            for answer, score in zip(answers, scores, strict=True):
                writer.write(answer, score)
        if sys.stderr.isatty() and not quiet:
            print(writer.summary(time.perf_counter() - began), file=sys.stderr)

    def stream(self, writer: Writer) -> None:
        """Prints text as it comes, in the order of the prompts, as `run` prints it.

        Rows grow side by side: the first that is not finished is shown, the others are held back.
        """
        grown: dict[int, list[Step]] = defaultdict(list)
        row = shown = 0
        for steps in self.batches():
            for step in steps:
                grown[step.row].append(step)
                while row in grown:
                    writer.part("".join(s.text for s in grown[row][shown:]), begins=shown == 0)
                    shown = len(grown[row])
                    if grown[row][-1].finish is None:
                        break
                    writer.write(self.completion(row, grown.pop(row)), {}, streamed=True)
                    row, shown = row + 1, 0
