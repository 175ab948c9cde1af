"""An open model, a task and a folder: cells are made here, and run."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypedDict

from trimtab.decoding.methods import Method
from trimtab.decoding.validate import check_call, check_is_method
from trimtab.errors import IncompatibleError, PromptError, UsageError, check_keywords, check_word
from trimtab.evaluation.cells import Cell, Item, deterministic, plain_sampling
from trimtab.evaluation.cost import WallTime, shape_of
from trimtab.evaluation.measure import make_table, wall_times
from trimtab.evaluation.metrics import Metric, find_metrics
from trimtab.evaluation.scoring import Failure, reward_error, score
from trimtab.evaluation.store import Store
from trimtab.evaluation.table import Table
from trimtab.evaluation.work import OnProgress, OpenModel, Progress, work, work_together
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import LanguageModel, Task
from trimtab.runs.identity import ModelId, digest, identify
from trimtab.runs.resolve import GuideSource, Scorer, find_reward
from trimtab.types import Split

log = logging.getLogger("trimtab")

OnRewardError: TypeAlias = Literal["raise", "skip"]


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        table: one row per method and guide.
        computed: units that this call decoded.
        reused: units that were there already, or that other processes decoded meanwhile.
        failures: texts without a score.
        times: wall time per token of each row, against the base; of the decoding, whenever it was.
    """

    table: Table
    computed: int
    reused: int
    failures: tuple[Failure, ...]
    times: tuple[WallTime, ...] = ()


class Options(TypedDict, total=False):
    """Keyword arguments of `evaluate` that `sweep` hands on.

    Attributes:
        prompts: the first so many of the split; None takes all.
        n: responses per prompt; methods that always say the same give one.
        base_samples: responses per prompt of plain sampling, whose figures best-of-n is computed
            from; None takes n.
        seed: with the prompt and the sample's number, decides every draw.
        max_new_tokens: token budget of a response; None takes the task's.
        rows: most rows that are decoded side by side; another number is other units.
        workers: processes; more than one needs `opener`.
        opener: opens the base again in a worker, such as `partial(TransformersLM, "smollm2")`.
        on_reward_error: "raise" stops after all other texts have their scores; "skip" leaves texts
            that cannot be scored out of the figures, and counts them.
        rescore: ask the reward, the judge and the metrics anew, whatever is kept of them.
        baseline: label of the row that others are compared with.
        metrics: names of figures beside those of every table, such as "rouge-l"; see `metrics`.
        on: told about every finished unit.
    """

    prompts: int | None
    n: int
    base_samples: int | None
    seed: int
    max_new_tokens: int | None
    rows: int
    workers: int
    opener: OpenModel | None
    on_reward_error: OnRewardError
    rescore: bool
    baseline: str | None
    metrics: Sequence[str | Metric]
    on: OnProgress | None


def check_options(function: str, options: Options, *splits: Split) -> None:
    """Raise `UnknownNameError` for an option, or a word of one, that is none."""
    for split in splits:
        check_word("split", split, Split)
    check_keywords(function, options, Options.__annotations__)
    check_word("on_reward_error", options.get("on_reward_error", "raise"), OnRewardError)


@dataclass(frozen=True)
class Bench:
    """An open model, a task and a folder: what every cell of a run shares.

    Attributes:
        lm: the base.
        model: its identity.
        task: what is measured on.
        store: the results folder.
        scorers: the task's reward and judge by role.
    """

    lm: LanguageModel[Any]
    model: ModelId
    task: Task
    store: Store
    scorers: Mapping[str, Scorer]

    @classmethod
    def of(cls, lm: LanguageModel[Any], task: Task, folder: str | Path) -> Bench:
        """Open the folder for a model and a task."""
        check_template(lm, task)
        model = identify(lm)
        store, scorers = Store(folder, model, task.name), scorers_of(task)
        for scorer in {s.name: s for s in scorers.values()}.values():
            warn_of(scorer.name, scorer.unknown, "it is asked anew each time")
        return cls(lm, model, task, store, scorers)

    def cells(
        self,
        methods: Sequence[Method],
        guides: Sequence[GuideSource],
        split: Split,
        options: Options,
    ) -> list[Cell]:
        """Every method with every guide; methods that need none once. Doubles are dropped."""
        items = items_of(self.lm, self.task, split, options.get("prompts"))
        budget = options.get("max_new_tokens") or self.task.max_new_tokens
        found, shape = dict[str, Cell](), shape_of(self.lm)
        opened = {guide.fingerprint: guide.open(self.lm) for guide in guides}
        unknown = next((i.known.unknown for i in items if i.known.unknown), "")
        warn_of("what is known of a prompt", unknown, "scores are asked anew each time")
        for source in guides:
            warn_of(f"guide {source.name}", source.unknown, ANEW)
        for method in methods:
            check_is_method(method)
            if method.guided and not guides:
                raise UsageError(
                    f"method {method.name!r} needs a guide", got="none", do="name a guide"
                )
            for guide in guides if method.guided else (None,):
                cell = Cell(
                    self.task.name,
                    split,
                    self.model,
                    method,
                    guide,
                    _responses(method, options),
                    options.get("seed", 0),
                    budget,
                    items,
                    options.get("rows", 32),
                    shape,
                    shape_of(opened[guide.fingerprint]) if guide else None,
                )
                warn_of(cell.label, "; ".join(cell.unknown), ANEW)
                beside = opened[guide.fingerprint] if guide else None
                asked = [item.prompt for item in items]
                check_call(self.lm, beside, method, asked, cell.n, budget, True)
                found.setdefault(cell.key, cell)
        _told_apart([(c.label, c.guide.name if c.guide else None) for c in found.values()])
        return list(found.values())

    def run(self, cells: Sequence[Cell], name: str, options: Options) -> Evaluation:
        """Decode and score what is missing, and write `tables/<name>.json`, `.csv` and `.md`."""
        if not cells:
            raise UsageError("there must be a method to measure", got="none", do="name one")
        metrics = find_metrics(options.get("metrics", ()))
        on = options.get("on") or _silent
        units = list({unit.key: unit for cell in cells for unit in cell.units}.values())
        self.store.register(list(cells))
        there = sum(self.store.has(unit) for unit in units)
        on(Progress("unit", there, len(units), 0))
        workers = options.get("workers", 1)
        if workers > 1:
            opener = _needed(options.get("opener"))
            computed = work_together(self.store, opener, self.task.name, units, workers, on)
        else:
            computed = work(self.store, self.lm, units, on)
        strict = options.get("on_reward_error", "raise") == "raise"
        scorers = [*self.scorers.values(), *(m.scorer for m in metrics if m.scorer is not None)]
        if options.get("rescore", False):
            self.store.forget(scorers, units)
        failures = score(self.store, scorers, units, on, again=strict)
        if failures and strict:
            texts = sum(cell.n * len(cell.items) for cell in cells)
            raise reward_error(failures, texts * len(scorers) - len(failures))
        table = make_table(self.store, cells, self.scorers, options.get("baseline"), metrics)
        self.store.write_text(f"{name}.json", table.to_json())
        self.store.write_text(f"{name}.csv", table.to_csv())
        self.store.write_text(f"{name}.md", table.to_markdown())
        times = wall_times(self.store, cells)
        return Evaluation(table, computed, len(units) - computed, tuple(failures), times)


def _needed(opener: OpenModel | None) -> OpenModel:
    if opener is None:
        raise UsageError(
            "several workers open the model themselves",
            got="no opener",
            do="pass a function that opens it, such as opener=partial(TransformersLM, name)",
        )
    return opener


def _told_apart(rows: Sequence[tuple[str, str | None]]) -> None:
    """Two rows of one name would be one row to every reader."""
    for label, guide in rows:
        if rows.count((label, guide)) > 1:
            raise UsageError(
                "rows of a table must differ in name",
                got=f"{label!r} by {guide!r} twice, with different contents",
                do="give methods and guides names of their own",
            )


def _responses(method: Method, options: Options) -> int:
    """How often each prompt is answered."""
    if deterministic(method):
        return 1
    n = options.get("n", 1)
    return (options.get("base_samples") or n) if plain_sampling(method) else n


ANEW = "texts are decoded anew each time"


def warn_of(name: str, unknown: str, follows: str) -> None:
    """Say of what has no fingerprint why that is, and what follows from it."""
    if unknown:
        log.warning(
            "%s cannot be told from others of its name, so %s: %s (a text as its attribute "
            "`fingerprint` would tell it)",
            name,
            follows,
            unknown,
        )


def _silent(_: Progress) -> None:
    """Nobody listens."""


# --- tasks ---------------------------------------------------------------------------------------


def check_template(lm: LanguageModel[Any], task: Task) -> None:
    """Raise `IncompatibleError` where the base would ask otherwise than the task means to."""
    if not isinstance(lm, TransformersLM) or not lm.tokenizer.chat_template:
        return
    if lm.codec.template != task.template:
        raise IncompatibleError(
            f"task {task.name!r} must be asked with template={task.template!r}",
            got=f"a model with template={lm.codec.template!r}",
            do=f"open it with TransformersLM(..., template={task.template!r})",
        )


def scorers_of(task: Task) -> dict[str, Scorer]:
    """A task's reward and judge by role, under their names."""
    found = {"reward": find_reward(task.reward)}
    if task.judge is not None:
        found["judge"] = find_reward(task.judge)
    return found


def items_of(
    lm: LanguageModel[Any], task: Task, split: Split, most: int | None = None
) -> tuple[Item, ...]:
    """The prompts of a split, encoded, each once.

    Raises:
        PromptError: there are none, or one is empty.
    """
    if most is not None and most < 1:
        raise UsageError("prompts must be at least 1", got=f"{most}", do="raise it")
    found: dict[str, Item] = {}
    samples = list(task.samples(split))
    for sample in samples:
        prompt = lm.encode(sample.prompt)
        key = digest([list(prompt.ids), prompt.text])[:12]
        found.setdefault(key, Item(key, prompt, sample))
    if len(found) < len(samples):
        log.warning(
            "%d prompts of %s occur twice: once is enough", len(samples) - len(found), split
        )
    if not found:
        raise PromptError(
            f"split {split!r} of {task.name!r} must hold prompts", got="none", do="name another"
        )
    return tuple(found.values())[:most]
