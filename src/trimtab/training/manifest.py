"""The manifest of a folder of groups: read, and compared with what is wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trimtab.errors import DataError
from trimtab.guides.manifest import PolicyFacts
from trimtab.schema import (
    SchemaError,
    above,
    check,
    mapping_of,
    maybe,
    number,
    record,
    schema_of,
    text,
    truth,
    whole,
)

FORMAT = 1
"""Of the folder; raised when what it holds, or how it is made, changes."""

AGAIN = "run trimtab collect again: what is finished is kept"

_NAMES = ("about.model.name", "about.prompts.source", "about.guide.name")
"""What a thing is called is no difference: its fingerprint is beside it."""


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """What made the groups of a folder, and their statistics.

    Returns:
        `format`, `trimtab` (its version), `complete`, `shards` (how many), `about` (what made
        them), `rewards` (by name: `fingerprint`, `folder`, statistics) and `counts`; statistics
        and counts are there when all groups are.

    Raises:
        DataError: the folder holds no groups, or those of another format.
    """
    path = Path(folder) / "manifest.json"
    do = "name a folder that `trimtab collect` wrote"
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            "a folder of groups must hold its manifest.json",
            got=f"{folder} ({type(error).__name__})",
            do=do,
        ) from error
    check(found, record({"format": whole()}, more=True), of=str(path), error=DataError, do=do)
    if found["format"] != FORMAT:
        raise DataError(
            f"groups must be of format {FORMAT}",
            got=f"{found['format']} in {folder}",
            do="collect anew",
        )
    check(
        found, MANIFEST, of=str(path), error=DataError, do="collect anew, or get the folder again"
    )
    return found


def _plain_name(value: Any, name: str) -> None:
    """The name of a folder beside others: never a path."""
    text(value, name)
    if not value or value.startswith(".") or set(value) & set("/\\"):
        raise SchemaError(f"{name} must be the name of a folder", repr(value)[:60])


_COUNT = whole(0, 2**53)
MANIFEST = record(
    {
        "format": whole(),
        "trimtab": text,
        "complete": truth,
        "shards": whole(0, 1_000_000),
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
        "counts": record(
            {},
            {
                **dict.fromkeys(("groups", "responses", "tokens"), _COUNT),
                "finish": mapping_of(_COUNT),
            },
            more=True,
        )
    },
)
"""What a manifest must be: it may come from anybody."""


def check_whole(folder: Path, missing: Sequence[str]) -> None:
    """Raise `DataError` that names the files that are missing."""
    if missing:
        more = f" and {len(missing) - 3} more" if missing[3:] else ""
        raise DataError(
            f"the groups in {folder} must be complete",
            got=f"no {', '.join(missing[:3])}{more}",
            do=AGAIN,
        )


def check_same(
    folder: Path,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
) -> None:
    """Refuse a folder of other groups.

    A complete one may have more rewards than are wanted. A reward may have been another function
    of its name: it will be asked anew.
    """
    theirs, mine = (
        _flat({k: m[k] for k in ("trimtab", "shards", "about")}) for m in (found, wanted)
    )
    for m, flat in ((found, theirs), (wanted, mine)):
        flat |= {f"reward {name}": "there" for name in m["rewards"]}
    asked = mine if found["complete"] else mine.keys() | theirs.keys()
    other = [k for k in sorted(asked) if k not in _NAMES and theirs.get(k) != mine.get(k)]
    if other:
        said = ", ".join(f"{k} {theirs.get(k)!r} (now {mine.get(k)!r})" for k in other)
        raise DataError(
            f"the groups in {folder} must be of the same job",
            got=said,
            do="name another folder, or go back to what made this one; "
            "--relabel adds rewards to finished groups",
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
