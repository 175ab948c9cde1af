"""`trimtab generate`: steered text from prompts."""

from __future__ import annotations

import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
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
    panel,
    read_prompts,
)
from trimtab.cli.screen import on_screen, progress
from trimtab.errors import UsageError

if TYPE_CHECKING:
    from trimtab.cli.answers import Answer, Writer
    from trimtab.decoding.methods import Method
    from trimtab.models.transformers import TransformersLM
    from trimtab.protocols import Guide
    from trimtab.runs.resolve import GuideSource, Scorer
    from trimtab.types import Prompt, Sample, Step

Ledger: TypeAlias = dict[str, Any]
"""What made a response: a part of each line of JSON."""


@panel(RUN)
class DecodingOptions:
    """How many responses, and how long.

    Attributes:
        n: Responses per prompt.
        max_new_tokens: Longest response, in tokens.
        stop: End at this text; may repeat.
        seed: The same seed gives the same text.
        rows: Responses decoded side by side. More takes memory; no text depends on it.
    """

    n: Annotated[Count, Parameter(alias="-n")] = 1
    max_new_tokens: Count = 128
    stop: tuple[str, ...] = ()
    seed: int = 0
    rows: Count = 32


@panel(OUTPUT)
class AnswerOptions:
    """What is shown of them, and where.

    Attributes:
        reward: What scores the finished texts; may repeat. See `trimtab evaluate --help`.
        compare: Show base, steered and best-of-n answers side by side.
        best_of: The n of --compare.
        stream: Print text as it comes.
        alternatives: Likeliest candidates per token in --json.
        out: A .jsonl, .csv or .parquet of responses, with their figures (of a .jsonl with --json
            also the token ledger). Stopped and called again, it goes on where it was.
        overwrite: Replace --out, or what was begun of it.
    """

    reward: Annotated[Names, Parameter(alias="-r")] = ()
    compare: Annotated[bool, Parameter(negative="")] = False
    best_of: Count = 8
    stream: Annotated[bool, Parameter(alias="-s", negative="")] = False
    alternatives: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0
    out: Annotated[Path | None, Parameter(alias="-o")] = None
    overwrite: Annotated[bool, Parameter(negative="")] = False

    def check(self, output: OutputOptions) -> None:
        """Raise a `UsageError` for what cannot be meant, before anything is loaded."""
        from trimtab.cli.answers import check_file

        for one, other, must in (
            (self.stream, self.out, "--stream prints, --out writes"),
            (
                self.stream,
                self.reward,
                "--stream prints parts of texts, --reward scores whole ones",
            ),
            (self.stream, self.compare, "--stream prints one text at a time, --compare several"),
            (self.compare, self.out, "--compare prints, --out writes"),
        ):
            if one and other:
                raise UsageError(must, got="both", do="drop one")
        if self.out is not None:
            check_file(self.out, overwrite=self.overwrite, ledger=output.json)


def generate(
    *prompt: Annotated[str, Parameter(show_default=False)],
    source: PromptOptions = PromptOptions(),
    system: Annotated[str | None, Parameter(group=PROMPTS)] = None,
    steering: MethodOptions = MethodOptions(),
    temperature: Annotated[
        float | None, Parameter(alias="-t", validator=validators.Number(gte=0), group=STEERING)
    ] = None,
    on_guide_error: Annotated[Literal["raise", "base"], Parameter(group=STEERING)] = "raise",
    run: DecodingOptions = DecodingOptions(),
    shown: AnswerOptions = AnswerOptions(),
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
    """
    shown.check(output)
    samples = read_prompts(prompt, source, system)
    method = steering.find(temperature)
    from trimtab.cli.answers import Writer, show_compared
    from trimtab.decoding.checks import encode_all
    from trimtab.runs.resolve import find_guide, find_reward, guide_kind

    if steering.guide is not None:
        guide_kind(steering.guide)  # a name that cannot be meant is said before anything is loaded
    scorers = [find_reward(name) for name in shown.reward]
    lm = model.open()
    guide = find_guide(steering.guide, lm) if steering.guide is not None else None
    options = {
        "max_new_tokens": run.max_new_tokens,
        "seed": run.seed,
        "stop": list(run.stop),
        "alternatives": shown.alternatives,
        "on_guide_error": on_guide_error,
    }
    prompts = encode_all(lm, [sample.prompt for sample in samples])
    beside = guide.open(lm) if guide is not None else None
    job = Job(lm, beside, method, prompts, samples, scorers, run.rows, run.n, options)
    if shown.compare:
        show_compared(job, guide, shown.best_of, output)
        return
    job.check()
    ledger: Ledger = {
        "model": model.model,
        "method": method.name,
        "beta": method.beta,
        "guide": guide.name if guide else None,
        "seed": run.seed,
    }
    if shown.out is not None:
        _into_file(job, guide, ledger, shown, output)
        return
    put = partial(print, end="", flush=True)
    writer = Writer(run.n, len(prompts), put, ledger if output.json else None)
    job.stream(writer) if shown.stream else job.run(writer, quiet=output.quiet)


def _into_file(
    job: Job, guide: GuideSource | None, ledger: Ledger, shown: AnswerOptions, output: OutputOptions
) -> None:
    """Every response in a file, which a job that was stopped left to go on with."""
    from trimtab import version
    from trimtab.cli.answers import Writer, unfinished
    from trimtab.runs.batches import describe
    from trimtab.runs.identity import identify

    facts = {
        "trimtab": version.__version__,
        "base": identify(job.lm).identity(),
        "template": job.lm.codec.template,
        "parts": describe(job.method),
        "steering": guide.fingerprint if guide else None,
        "rewards": {scorer.name: scorer.fingerprint for scorer in job.scorers},
        **ledger,
        **job.options,
        "n": job.n,
        "json": output.json,
    }
    prompts, n, out = job.prompts, job.n, shown.out
    assert out is not None
    with unfinished(out, facts, prompts, n, overwrite=shown.overwrite) as (done, put):
        if done and not output.quiet:
            print(f"going on after {done} of {len(prompts)} prompts", file=sys.stderr)
        writer = Writer(n, len(prompts), put, ledger, steps=output.json)
        job.run(writer, first=done, quiet=output.quiet)
    if not output.quiet:
        print(f"{len(prompts) * n} responses in {out}", file=sys.stderr)


@dataclass(frozen=True)
class Job:
    """Prompts that are decoded a few at a time, and scored."""

    lm: TransformersLM
    guide: Guide[Any] | None
    method: Method
    prompts: Sequence[Prompt]
    samples: Sequence[Sample]  # the same, as rewards see them
    scorers: Sequence[Scorer]
    rows: int  # most responses side by side
    n: int  # responses to each prompt
    options: Mapping[str, Any]  # the others of `decode_steps`

    def check(self) -> None:
        """All prompts, before the first is decoded."""
        from trimtab.decoding.checks import check_call

        longest: int = self.options["max_new_tokens"]
        check_call(self.lm, self.guide, self.method, self.prompts, self.n, longest, True)

    def batches(self, first: int = 0) -> Iterator[Iterator[Step]]:
        """The steps of each batch, from a prompt on, as if all were one call.

        No text depends on its batch: every draw is counted from the prompt itself, and from how
        many of its samples came before.
        """
        from trimtab.decoding.loop import decode_steps

        size, n = max(1, self.rows // self.n), min(self.rows, self.n)
        drawn = Counter(prompt.ids for prompt in self.prompts[:first])
        for index in range(first, len(self.prompts), size):
            prompts = self.prompts[index : index + size]
            for sample in range(0, self.n, n):
                options: Any = {
                    **self.options,
                    "n": min(n, self.n - sample),
                    "drawn": [drawn[prompt.ids] * self.n + sample for prompt in prompts],
                    "first_prompt": index,
                }
                row = index * self.n + sample
                steps = decode_steps(self.lm, self.guide, self.method, prompts, **options)
                yield (replace(step, row=row + step.row) for step in steps)
            drawn.update(prompt.ids for prompt in prompts)

    def answers(
        self, *, first: int = 0, label: str = "generating", quiet: bool = False
    ) -> Iterator[list[Answer]]:
        """Each batch's responses with their scores, with a bar while they are decoded."""
        budget: int = self.options["max_new_tokens"]
        total, done = len(self.prompts) * self.n * budget, first * self.n * budget
        with progress(label, quiet=quiet) as meter:
            for steps in self.batches(first):
                grown: dict[int, list[Step]] = defaultdict(list)
                for step in steps:
                    grown[step.row].append(step)
                    done += len(step.tokens)
                    if step.finish is not None:  # what it has not used is done as well
                        done += budget - sum(len(s.tokens) for s in grown[step.row])
                    meter(done, total)
                answers = [self.answer(row, grown[row]) for row in sorted(grown)]
                self.score(answers)
                with meter.hidden() if on_screen() else nullcontext():
                    yield answers

    def answer(self, row: int, steps: Sequence[Step]) -> Answer:
        """The response of a row whose steps are all there."""
        from trimtab.cli.answers import Answer
        from trimtab.decoding.loop import completion

        index, sample = divmod(row, self.n)
        return Answer(index, completion(self.prompts[index], sample, steps))

    def score(self, answers: Sequence[Answer]) -> None:
        """Ask every reward for finished responses."""
        from trimtab.rewards import ask

        samples = [self.samples[answer.index] for answer in answers]
        texts = [answer.completion.text for answer in answers]
        for scorer in self.scorers:
            values = ask(scorer.function, samples, texts)
            for answer, value in zip(answers, values, strict=True):
                if isinstance(value, str):
                    print(f"warning: {scorer.name} of a response: {value}", file=sys.stderr)
                answer.scores[scorer.name] = None if isinstance(value, str) else value

    def run(self, writer: Writer, *, first: int = 0, quiet: bool = False) -> None:
        """Decodes batch after batch and hands each to the writer."""
        began = time.perf_counter()
        for answers in self.answers(first=first, quiet=quiet):
            for answer in answers:
                writer.write(answer)
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
                    text = "".join(s.text for s in grown[row][shown:])
                    writer.part(row, text, begins=shown == 0)
                    shown = len(grown[row])
                    if grown[row][-1].finish is None:
                        break
                    writer.write(self.answer(row, grown.pop(row)), streamed=True)
                    row, shown = row + 1, 0
