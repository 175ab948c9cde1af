"""The manifest of a run's folder and its conditions: read, checked, compared with the wanted."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.errors import ResultsError
from trimtab.guides.manifest import PolicyFacts
from trimtab.runs.batches import Facts
from trimtab.runs.record import FORMAT, Answer
from trimtab.schema import (
    Schema,
    SchemaError,
    above,
    anything,
    check,
    list_of,
    mapping_of,
    maybe,
    number,
    record,
    schema_of,
    text,
    truth,
    whole,
)

AGAIN = "run the same command again: what is finished is kept"

_NAMES = ("about.model.name", "about.prompts.source", "about.guide.name")
"""What a thing is called is no difference: its fingerprint is beside it."""

_DO = "name a folder that `trimtab collect`, `trimtab evaluate` or `trimtab sweep` wrote"


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What made a run's folder, and of a finished kept one its statistics.

    Returns:
        `format`, `trimtab` (its version), `about` (what all of it shares), `rewards` (by name:
        `fingerprint`, `folder` and statistics) and, of kept runs, `complete` and `counts`; those
        of `evaluate` have `roles`: the names of the task's "reward" and "judge".

    Raises:
        ResultsError: the folder is no run's, or that of another format.
    """
    path = Path(folder) / "manifest.json"
    manifest: dict[str, Any] = _json(path, f"{folder}")
    check(
        manifest, record({"format": whole()}, more=True), of=f"{path}", error=ResultsError, do=_DO
    )
    if manifest["format"] != FORMAT:
        raise ResultsError(
            f"a run's folder must be of format {FORMAT}",
            got=f"{manifest['format']} in {folder}",
            do="run it anew, in another folder",
        )
    check(manifest, MANIFEST, of=f"{path}", error=ResultsError, do=_DO)
    return manifest


def read_condition(path: Path) -> Facts:
    """What a folder says of one condition.

    Raises:
        ResultsError: the file is missing or damaged.
    """
    facts = _json(path, f"{path}")
    check(facts, CONDITION, of=f"{path}", error=ResultsError, do=AGAIN)
    return Facts(**(facts | {"batches": tuple(facts["batches"])}))


def _json(path: Path, got: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ResultsError(
            f"a run's folder must hold its {path.name}, whole",
            got=f"{got} ({type(error).__name__})",
            do=_DO,
        ) from error


def _plain_name(value: Any, name: str) -> None:
    """The name of a folder or a file beside others: never a path."""
    text(value, name)
    if not value or value.startswith(".") or set(value) & set("/\\"):
        raise SchemaError(f"{name} must be the name of a folder", repr(value)[:60])


_COUNT = whole(0, 2**53)
MANIFEST: Schema = record(
    {
        "format": whole(),
        "trimtab": text,
        "about": schema_of(PolicyFacts),
        "rewards": mapping_of(
            record(
                {"fingerprint": text, "folder": _plain_name},
                {
                    "n": _COUNT,
                    "failed": _COUNT,
                    **dict.fromkeys(("mean", "min", "max"), maybe(number)),
                    **dict.fromkeys(("std", "within_std"), maybe(above(0, equal=True))),
                },
                more=True,
            )
        ),
    },
    {
        "complete": truth,
        "roles": mapping_of(text),
        "counts": record(
            {},
            {
                **dict.fromkeys(("groups", "responses", "tokens"), _COUNT),
                "finish": mapping_of(_COUNT),
            },
            more=True,
        ),
    },
)
"""What a manifest must be: it may come from anybody."""

CONDITION: Schema = record(
    {
        "key": text,
        "task": text,
        "split": text,
        "label": text,
        "prompts": record({"count": _COUNT, "fingerprint": text}),
        "batches": list_of(_plain_name),
        "method": maybe(mapping_of(anything)),
        "guide": maybe(record({"name": text, "fingerprint": text})),
        "shape": maybe(mapping_of(anything)),
        "guide_shape": maybe(mapping_of(anything)),
        "plain": truth,
        "n": maybe(whole(1)),
        "seed": maybe(whole(-(2**63), 2**63)),
        "max_new_tokens": maybe(whole(1)),
    }
)
"""What a condition's file must be."""


def check_whole(folder: Path, missing: Sequence[str]) -> None:
    """Raise `ResultsError` that names the files that are missing."""
    if missing:
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        raise ResultsError(
            f"the run in {folder} must be complete",
            got=f"no {', '.join(missing[:3])}{more}",
            do=AGAIN,
        )


def check_same(folder: Path, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse a folder of other work.

    A complete one may have more rewards than are wanted. A reward may have been another function
    of its name: it will be asked anew.
    """
    theirs, mine = (_flat({k: m[k] for k in ("trimtab", "about")}) for m in (there, wanted))
    if "complete" in wanted or "complete" in there:
        for manifest, flat in ((there, theirs), (wanted, mine)):
            flat |= {f"reward {name}": "there" for name in manifest["rewards"]}
    asked = mine if there.get("complete") else mine.keys() | theirs.keys()
    other = [k for k in sorted(asked) if k not in _NAMES and theirs.get(k) != mine.get(k)]
    if other:
        said = ", ".join(f"{k} {theirs.get(k)!r} (now {mine.get(k)!r})" for k in other)
        raise ResultsError(
            f"the run in {folder} must be of the same job, model and version",
            got=said,
            do="name another folder, or go back to what made this one"
            + ("; --relabel adds rewards to finished groups" if "complete" in there else ""),
        )


def _flat(thing: Any, name: str = "") -> dict[str, Any]:
    """Nested objects as one, their keys joined by dots."""
    if not isinstance(thing, dict):
        return {name: thing}
    return {
        k: v
        for key, value in thing.items()
        for k, v in _flat(value, f"{name}.{key}" if name else str(key)).items()
    }


def describe_scores(answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Statistics of a reward.

    Args:
        answers: for each group what the reward said of each response.

    Returns:
        n: responses with a score.
        failed: responses that it could not score.
        mean, std, min, max: of all scores; std with n - 1 in the denominator.
        within_std: the standard deviation among responses to one prompt: the square root of the
            mean variance within groups. What a guide can win is bounded by it.
        None stands for a figure that too few scores leave open.

    >>> facts = describe_scores([[1.0, 3.0], [5.0, "timed out"]])
    >>> facts["n"], facts["failed"], facts["mean"], round(facts["within_std"], 3)
    (3, 1, 3.0, 1.414)
    """
    groups = [[x for x in group if isinstance(x, float)] for group in answers]
    scores = [x for group in groups for x in group]
    within = [statistics.variance(group) for group in groups if len(group) > 1]
    return {
        "n": len(scores),
        "failed": sum(isinstance(x, str) for group in answers for x in group),
        "mean": math.fsum(scores) / len(scores) if scores else None,
        "std": statistics.stdev(scores) if len(scores) > 1 else None,
        "within_std": math.sqrt(math.fsum(within) / len(within)) if within else None,
        "min": min(scores, default=None),
        "max": max(scores, default=None),
    }
