"""Methods on a task, on one footing: the same prompts, the same seeds, the same length.

    evaluate(lm, task, [greedy(), sampling(), vas(beta=4)], "results", guides=["mine"], n=4)

decodes what `results` does not hold yet, has the task's reward and judge score the texts, and
returns the table, which also lies in `results/tables/<split>.json`, `.csv` and `.md` (those of the
last call). A second call computes nothing, and an interrupted one goes on where it stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from trimtab import tasks
from trimtab.decoding.checks import check_call, check_is_method
from trimtab.decoding.methods import Method
from trimtab.errors import IncompatibleError, PromptError, UsageError, check_keywords, check_word
from trimtab.evaluation.cost import Shape, WallTime, shape_of, wall_times
from trimtab.evaluation.metrics import Metric, find_metrics
from trimtab.evaluation.table import Table, make_table
from trimtab.models.transformers import TransformersLM
from trimtab.protocols import Guide, LanguageModel, Reward, Task
from trimtab.runs.batches import Condition, Item, Policy, deterministic, plain_sampling
from trimtab.runs.identity import identify
from trimtab.runs.processes import Processes, check_opener, hand_out
from trimtab.runs.resolve import (
    GuideSource,
    Scorer,
    find_guide,
    find_method,
    find_model,
    find_reward,
)
from trimtab.runs.store import Store
from trimtab.runs.worker import (
    Failure,
    OnProgress,
    OnRewardError,
    Scoring,
    Work,
    base_of,
    identities,
    reward_error,
    silent,
    warn_of,
)
from trimtab.types import Split

log = logging.getLogger("trimtab")

GuideLike: TypeAlias = "str | Path | Guide[Any] | Scorer | GuideSource | Reward"
"""What guides may be given as: a name, an open guide, or a reward to read on prefixes."""

ANEW = "texts are decoded anew each time"


@dataclass(frozen=True)
class Evaluation:
    """What came out.

    Attributes:
        table: one row per method and guide.
        computed: batches that this call decoded.
        reused: batches that were there already, or that other processes decoded meanwhile.
        failures: texts without a score.
        times: wall time per token of each row, against the base; of the decoding, whenever it was.
    """

    table: Table
    computed: int
    reused: int
    failures: tuple[Failure, ...]
    times: tuple[WallTime, ...] = ()


@dataclass(frozen=True)
class Options:
    """How `evaluate` and `sweep` measure; each is a keyword argument of both.

    Attributes:
        prompts: the first so many of the split; None takes all.
        n: responses per prompt; methods that always say the same give one.
        base_samples: responses per prompt of plain sampling, whose figures best-of-n is computed
            from; None takes n.
        seed: with the prompt and the sample's number, decides every draw.
        max_new_tokens: token budget of a response; None takes the task's.
        rows: most rows that are decoded side by side; another number is other batches.
        alternatives: how many of the likeliest candidates of each step are kept, for people to
            read; those of texts that are there are not.
        processes: who does the work; None is this process.
        on_reward_error: "raise" stops after all other texts have their scores; "skip" leaves texts
            that cannot be scored out of the figures, and counts them.
        rescore: ask the reward, the judge and the metrics anew, whatever is kept of them.
        baseline: label of the row that others are compared with.
        metrics: names of figures beside those of every table, such as "rouge-l"; see `metrics`.
        on: told how far it is.
    """

    prompts: int | None = None
    n: int = 1
    base_samples: int | None = None
    seed: int = 0
    max_new_tokens: int | None = None
    rows: int = 32
    alternatives: int = 5
    processes: Processes | None = None
    on_reward_error: OnRewardError = "raise"
    rescore: bool = False
    baseline: str | None = None
    metrics: Sequence[str | Metric] = ()
    on: OnProgress = silent

    @classmethod
    def of(cls, function: str, given: Mapping[str, Any], *splits: Split) -> Options:
        """The keyword arguments of a call, checked by name and word."""
        for split in splits:
            check_word("split", split, Split)
        check_keywords(function, given, [field.name for field in fields(cls)])
        check_word("on_reward_error", given.get("on_reward_error", "raise"), OnRewardError)
        return cls(**given)


def evaluate(
    lm: LanguageModel[Any] | str,
    task: Task | str,
    methods: Sequence[Method | str],
    folder: str | Path,
    *,
    guides: Sequence[GuideLike] = (),
    split: Split = "test",
    **options: Any,
) -> Evaluation:
    """Measure methods on a split of a task.

    Args:
        lm: the base, or its name.
        task: prompts, a reward and perhaps a judge; or its name.
        methods: with their strengths, or their names; guided ones run with every guide.
        folder: where results are kept; of one model and one task.
        guides: by name, or open.
        split: of the task's prompts.
        **options: see `Options`.

    Raises:
        UsageError: the call cannot be meant; nothing was decoded.
        ResultsError: the folder holds other results, or its disk is full.
        RewardError: a text could not be scored and `on_reward_error` is "raise".
    """
    chosen = Options.of("evaluate", options, split)
    experiment = Experiment.of(lm, task, folder, guides, chosen)
    return experiment.run(experiment.conditions(methods, split), split)


@dataclass(frozen=True)
class Experiment:
    """An open model, a task and a folder: what every condition of a run shares."""

    lm: LanguageModel[Any]
    task: Task
    store: Store
    scorers: Mapping[str, Scorer]  # the task's reward and judge by role
    guides: tuple[tuple[GuideSource, Guide[Any]], ...]  # each with what opened beside the base
    options: Options

    @classmethod
    def of(
        cls,
        lm: LanguageModel[Any] | str,
        task: Task | str,
        folder: str | Path,
        guides: Sequence[GuideLike],
        options: Options,
    ) -> Experiment:
        """Open the folder for a model and a task, and the guides beside the model."""
        task = tasks.find(task) if isinstance(task, str) else task
        if isinstance(lm, str):
            opener = find_model(lm, template=task.template)
            processes = options.processes or Processes()
            processes = replace(processes, opener=processes.opener or opener)
            lm, options = opener(), replace(options, processes=processes)
        check_template(lm, task)
        check_opener(options.processes or Processes())
        scorers = scorers_of(task)
        for scorer in {s.name: s for s in scorers.values()}.values():
            warn_of(scorer.name, scorer.unknown, "it is asked anew each time")
        sources = [find_guide(guide, lm) for guide in guides]
        for source in sources:
            warn_of(f"guide {source.name}", source.unknown, ANEW)
        opened = tuple((source, source.open(lm)) for source in sources)
        store = Store(folder)
        about = {"kind": "evaluation", "task": task.name, "model": base_of(lm)["model"]}
        roles = {role: scorer.name for role, scorer in scorers.items()}
        store.open(about, identities(scorers.values()), kept=False, roles=roles)
        return cls(lm, task, store, scorers, opened, options)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The figures beside those of every table; most runs ask for none."""
        return find_metrics(self.options.metrics) if self.options.metrics else ()

    def conditions(self, methods: Sequence[Method | str], split: Split) -> list[Condition]:
        """Every method with every guide; methods that need none once. Doubles are dropped."""
        items = items_of(self.lm, self.task, split, self.options.prompts)
        unknown = next((item.seen.unknown for item in items if item.seen.unknown), "")
        warn_of("what is known of a prompt", unknown, "scores are asked anew each time")
        conditions: dict[str, Condition] = {}
        for given in methods:
            method = find_method(given) if isinstance(given, str) else given
            check_is_method(method)
            if method.guided and not self.guides:
                raise UsageError(
                    f"method {method.name!r} needs a guide", got="none", do="name a guide"
                )
            for source, guide in self.guides if method.guided else ((None, None),):
                condition = self._condition(method, source, guide, split, items)
                conditions.setdefault(condition.key, condition)
        _told_apart(conditions.values())
        return list(conditions.values())

    def _condition(
        self,
        method: Method,
        source: GuideSource | None,
        guide: Guide[Any] | None,
        split: Split,
        items: tuple[Item, ...],
    ) -> Condition:
        budget = self.options.max_new_tokens or self.task.max_new_tokens
        n, seed = self._responses(method), self.options.seed
        policy = Policy(identify(self.lm), method, source, n, seed, budget)
        condition = Condition(
            self.task.name,
            split,
            policy,
            items,
            self.options.rows,
            _as_dict(shape_of(self.lm)),
            _as_dict(shape_of(guide)),
        )
        warn_of(condition.facts.label, "; ".join(policy.unknown), ANEW)
        prompts = [item.prompt for item in items]
        check_call(self.lm, guide, method, prompts, n, budget, True)
        return condition

    def _responses(self, method: Method) -> int:
        """How often each prompt is answered."""
        if deterministic(method):
            return 1
        n = self.options.n
        return (self.options.base_samples or n) if plain_sampling(method) else n

    def run(self, conditions: Sequence[Condition], name: str) -> Evaluation:
        """Decode and score what is missing, and write `tables/<name>.json`, `.csv` and `.md`."""
        if not conditions:
            raise UsageError("there must be a method to measure", got="none", do="name one")
        options, metrics = self.options, self.metrics
        batches = {batch.key: batch for c in conditions for batch in c.batches}
        facts = [condition.facts for condition in conditions]
        self.store.register(facts)
        work = Work(
            self.store.folder,
            tuple(batches.values()),
            base=base_of(self.lm),
            timed=True,
            alternatives=options.alternatives,
        )
        processes = options.processes or Processes()
        computed = hand_out(work, processes, lambda: self.lm, options.on)
        failures = self._score(work)
        table = make_table(self.store, facts, self.scorers, options.baseline, metrics)
        files = {"json": table.to_json(), "csv": table.to_csv(), "md": table.to_markdown()}
        for kind, text in files.items():
            self.store.write_table(f"{name}.{kind}", text)
        times = wall_times(self.store, facts)
        return Evaluation(table, computed, len(batches) - computed, tuple(failures), times)

    def _score(self, work: Work) -> list[Failure]:
        """Have the reward, the judge and the metrics score the texts, in this process."""
        options = self.options
        strict = options.on_reward_error == "raise"
        scorers = [*self.scorers.values(), *(m.scorer for m in self.metrics if m.scorer)]
        if options.rescore:
            for scorer in scorers:
                self.store.forget(scorer.key, [batch.key for batch in work.batches])
        scoring = Scoring(tuple({s.key: s for s in scorers}.values()), again=strict)
        hand_out(replace(work, scoring=scoring), Processes(), lambda: self.lm, options.on)
        failures = scoring.failures(self.store, work.batches)
        if failures and strict:
            raise reward_error(failures, work.total * len(scorers) - len(failures))
        return failures


def _as_dict(shape: Shape | None) -> dict[str, Any] | None:
    return None if shape is None else asdict(shape)


def _told_apart(conditions: Iterable[Condition]) -> None:
    """Two rows of one name would be one row to every reader."""
    titles = [condition.facts.title for condition in conditions]
    for title in titles:
        if titles.count(title) > 1:
            raise UsageError(
                "rows of a table must differ in name",
                got=f"{title!r} twice, with different contents",
                do="give methods and guides names of their own",
            )


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
    scorers = {"reward": find_reward(task.reward)}
    if task.judge is not None:
        scorers["judge"] = find_reward(task.judge)
    return scorers


def items_of(
    lm: LanguageModel[Any], task: Task, split: Split, most: int | None = None
) -> tuple[Item, ...]:
    """The prompts of a split, encoded, each once."""
    if most is not None and most < 1:
        raise UsageError("prompts must be at least 1", got=f"{most}", do="raise it")
    samples = list(task.samples(split))
    encoded = (Item.of(lm.encode(sample.prompt), sample) for sample in samples)
    items: dict[str, Item] = {}
    for item in encoded:
        items.setdefault(item.id, item)
    if len(items) < len(samples):
        log.warning(
            "%d prompts of %s occur twice: once is enough", len(samples) - len(items), split
        )
    if not items:
        raise PromptError(
            f"split {split!r} of {task.name!r} must hold prompts", got="none", do="name another"
        )
    return tuple(items.values())[:most]
