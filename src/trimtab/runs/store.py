"""The folder of a run: work that is finished is there whole, and is never done again.

    <folder>/manifest.json             format, version, what all of it shares (`about`: the model,
                                       the task or job), the rewards; of a kept run also whether it
                                       is complete, its counts and statistics of its rewards
    <folder>/conditions/<key>.json     what one condition is, and the keys of its batches in order
    <folder>/records/<batch>.parquet   one row per prompt with all responses and ledgers
    <folder>/scores/<reward>/<batch>.parquet
                                       what a reward or judge says of each response of that batch
    <folder>/times/<batch>.json        {"seconds", "tokens"}, where they are wanted
    <folder>/tables/                   derived from all of the above
    <folder>/locks/                    while processes work; a dead process' lock is free

Every file takes its name by one atomic rename. Batches and scores are named by their content, so
any number of processes may share a folder, and another judge computes no text again. Nothing but
`times/` tells when a folder was made, or by how many processes.
"""

from __future__ import annotations

import errno
import json
import math
import shutil
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from filelock import FileLock, Timeout

from trimtab import version
from trimtab.errors import ResultsError, UnknownNameError
from trimtab.files import replace_file
from trimtab.runs.batches import Facts
from trimtab.runs.identity import canonical
from trimtab.runs.record import (
    AGAIN,
    FORMAT,
    Answer,
    Row,
    Scored,
    check_same,
    dump_rows,
    dump_scores,
    load_rows,
    load_scores,
    read_json,
    read_manifest,
)
from trimtab.schema import check, schema_of

Rewards: TypeAlias = Mapping[str, Mapping[str, Any]]
"""By name: the fingerprint and the folder of a reward, and its statistics where they are known."""


class Store:
    """A run's folder; made by `open`."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # --- batches and scores ----------------------------------------------------------------------

    def record(self, key: str) -> Path:
        """The file of a batch's texts."""
        return self.folder / "records" / f"{key}.parquet"

    def has(self, key: str) -> bool:
        """Whether a batch's texts are there."""
        return self.record(key).exists()

    def read(self, key: str, *, ledger: bool = True) -> list[Row]:
        """The rows of a finished batch, see `load_rows`."""
        return load_rows(self.record(key), ledger=ledger)

    def write(self, key: str, rows: Sequence[Row], seconds: float | None = None) -> None:
        """Publish the texts of a batch that is claimed, and how long they took if that is kept."""
        if seconds is not None:  # times first: where the texts are, the times are too
            tokens = sum(len(r.tokens) for row in rows for r in row.group.responses)
            time = canonical({"seconds": round(seconds, 6), "tokens": tokens})
            self.publish(self.folder / "times" / f"{key}.json", f"{time}\n")
        self.publish(self.record(key), dump_rows(rows))

    def time(self, key: str) -> dict[str, float] | None:
        """The seconds that a batch took and its tokens; None where they were not kept."""
        path = self.folder / "times" / f"{key}.json"
        if not path.exists():
            return None
        time: dict[str, float] = json.loads(path.read_text(encoding="utf-8"))
        return time

    def scores_file(self, reward: str, key: str) -> Path:
        """The file of a batch's scores by the reward of that folder."""
        return self.folder / "scores" / reward / f"{key}.parquet"

    def scores(self, reward: str, key: str) -> list[Scored] | None:
        """What a reward said of a batch; None where it has not been asked."""
        path = self.scores_file(reward, key)
        return load_scores(path) if path.exists() else None

    def write_scores(self, reward: str, key: str, scored: Iterable[Scored]) -> None:
        """Publish what a reward said of a batch that is claimed."""
        self.publish(self.scores_file(reward, key), dump_scores(scored))

    def forget(self, reward: str, keys: Iterable[str] | None = None) -> None:
        """Drop what a reward said of some batches, or of all, so that it is asked anew."""
        with writing(self.folder):
            if keys is None:
                shutil.rmtree(self.folder / "scores" / reward, ignore_errors=True)
            for key in keys or ():
                self.scores_file(reward, key).unlink(missing_ok=True)

    def missing(self, keys: Iterable[str], rewards: Iterable[str] = ()) -> list[str]:
        """The files that a finished run of these batches would have and this one has not."""
        keys = list(keys)
        wanted = [self.record(key) for key in keys]
        wanted += [self.scores_file(reward, key) for reward in rewards for key in keys]
        return [str(path.relative_to(self.folder)) for path in wanted if not path.exists()]

    def check_whole(self, keys: Iterable[str], rewards: Iterable[str] = ()) -> None:
        """Raise `ResultsError` that names the files that are missing."""
        if missing := self.missing(keys, rewards):
            more = f" and {len(missing) - 3} more" if missing[3:] else ""
            raise ResultsError(
                f"the run in {self.folder} must be complete",
                got=f"no {', '.join(missing[:3])}{more}",
                do=AGAIN,
            )

    # --- conditions and tables -------------------------------------------------------------------

    def register(self, conditions: Iterable[Facts]) -> None:
        """Note which conditions are wanted, finished or not."""
        for facts in conditions:
            path = self.folder / "conditions" / f"{facts.key}.json"
            if not path.exists():
                with self.alone():
                    self._publish_json(path, facts.as_dict())

    def conditions(self) -> list[Facts]:
        """All conditions that were ever wanted, in the order of their keys."""
        return [read_condition(p) for p in sorted((self.folder / "conditions").glob("*.json"))]

    def condition(self, name: str | None = None) -> Facts:
        """The condition of that key, title or label, perhaps with the split ("vas(beta=2)/test").

        None takes the only one, else the only one of plain sampling.
        """
        known = self.conditions()
        if name is None:
            fitting = known if len(known) == 1 else [facts for facts in known if facts.plain]
        else:
            fitting = [facts for facts in known if name in facts.names]
        if len(fitting) != 1:
            kind = "a condition" if name is not None else "the condition, where there are several,"
            raise UnknownNameError(
                f"{kind} of {self.folder}",
                name,
                {f"{facts.title}/{facts.split}" for facts in known},
                do='name one of them as condition="..."' if fitting or name is None else "",
            )
        return fitting[0]

    def write_table(self, name: str, text: str) -> Path:
        """Write `tables/<name>`."""
        path = self.folder / "tables" / name
        with self.alone():
            self.publish(path, text)
        return path

    # --- the manifest ----------------------------------------------------------------------------

    def open(
        self,
        about: Mapping[str, Any],
        rewards: Rewards,
        *,
        kept: bool,
        roles: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Begin a folder, or go on with one that was begun so; of other work it is refused.

        `about` is what all that is in it depends on. A kept run ends with all its rewards there, as
        `collect` does, and holds one job; others take any condition and any reward. Roles are the
        names of the rewards that are the task's own "reward" and "judge".
        """
        path = self.folder / "manifest.json"
        own = {"rewards": rewards, **({"roles": roles} if roles else {})}
        begun: dict[str, Any] = {"format": FORMAT, "trimtab": version.__version__, "about": about}
        begun |= own | ({"complete": False} if kept else {})
        begun = json.loads(json.dumps(begun))
        if not path.exists():
            with self.alone():
                if not path.exists():
                    self._publish_json(path, begun)
                    return begun
        manifest = read_manifest(self.folder)
        check_same(self.folder, manifest, begun)
        if manifest.get("complete"):  # it changes at its end
            return manifest

        def joined(manifest: dict[str, Any]) -> dict[str, Any]:
            others = {} if kept else manifest["rewards"]
            return manifest | own | {"rewards": {**others, **rewards}}

        if joined(manifest) == manifest:
            return manifest
        with self.alone():
            manifest = read_manifest(self.folder)
            self._publish_json(path, joined(manifest))
        for gone in _folders(manifest["rewards"]) - _folders(joined(manifest)["rewards"]):
            self.forget(gone)
        return joined(manifest)

    def finish(self, rewards: Rewards | None = None) -> dict[str, Any]:
        """Say in a kept run's manifest that all is there, with statistics; clear the locks away.

        Another reward of the name of one that was added gives way.
        """
        with self.alone():
            manifest, keys = read_manifest(self.folder), self.condition().batches
            named = manifest["rewards"] | dict(rewards or {})
            self.check_whole(keys, sorted(_folders(named)))
            gone = _folders(manifest["rewards"]) - _folders(named)
            manifest["counts"], manifest["complete"] = self._counts(keys), True
            manifest["rewards"] = {
                name: {"fingerprint": facts["fingerprint"], "folder": facts["folder"]}
                | describe_scores(
                    [row.answers for key in keys for row in self.scores(facts["folder"], key) or ()]
                )
                for name, facts in named.items()
            }
            self._publish_json(self.folder / "manifest.json", manifest)
            for reward in gone:
                self.forget(reward)
        manifest = read_manifest(self.folder)
        self.tidy(manifest)
        return manifest

    def _counts(self, keys: Iterable[str]) -> dict[str, Any]:
        """How many groups, responses and tokens there are, and why responses ended."""
        groups = [row.group for key in keys for row in self.read(key, ledger=False)]
        responses = [response for group in groups for response in group.responses]
        return {
            "groups": len(groups),
            "responses": len(responses),
            "tokens": sum(len(response.tokens) for response in responses),
            "finish": dict(Counter(response.finish or "given" for response in responses)),
        }

    def tidy(self, manifest: Mapping[str, Any]) -> None:
        """Clear away what only working processes need. Late ones make themselves new locks.

        Only what the manifest of the complete folder names: another reward may be on its way.
        """
        rewards = [self.folder / "scores" / name for name in _folders(manifest["rewards"])]
        for folder in (self.folder, self.folder / "records", self.folder / "conditions", *rewards):
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "locks", ignore_errors=True)

    # --- writing ---------------------------------------------------------------------------------

    def publish(self, path: Path, data: str | bytes) -> None:
        """Write a file, which this process has claimed, whole or not at all."""
        with writing(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data, locked=True)

    def _publish_json(self, path: Path, data: Mapping[str, Any]) -> None:
        text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
        self.publish(path, f"{text}\n")

    def alone(self) -> AbstractContextManager[bool]:
        """No other process changes the manifest, a condition or a table meanwhile."""
        return self.claim("folder", wait=True)

    @contextmanager
    def claim(self, name: str, *, wait: bool = False) -> Iterator[bool]:
        """Whether this process may work on `name` now; False where another one does."""
        lock = self._lock(name, -1 if wait else 0)
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()

    def _lock(self, name: str, timeout: float) -> FileLock | None:
        """A lock that is held; the death of its process frees it."""
        folder = self.folder / "locks"
        with writing(self.folder):
            while True:
                folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder / name)
                try:
                    lock.acquire(timeout=timeout)
                    return lock
                except Timeout:
                    return None
                except FileNotFoundError:  # another process has just cleared the locks away
                    continue


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says plainly what a failed write means for the work."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            "results must be written "
            + ("to a disk with room" if full else "to a folder of yours"),
            got=f"{error.strerror or error} in {folder}",
            do=("make room" if full else "name another folder")
            + " and run it again: what is finished is kept",
        ) from error


def _folders(rewards: Rewards) -> set[str]:
    return {facts["folder"] for facts in rewards.values()}


def read_condition(path: Path) -> Facts:
    """What a folder says of one condition."""
    facts = read_json(path)
    check(facts, schema_of(Facts), of=f"{path}", error=ResultsError, do=AGAIN)
    return Facts(**facts)


def describe_scores(answers: Sequence[Sequence[Answer]]) -> dict[str, Any]:
    """Statistics of a reward, of which too few scores leave some open.

    `std` has n - 1 in the denominator. `within_std` is the standard deviation among responses to
    one prompt, the square root of the mean variance within groups: it bounds what a guide can win.

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
