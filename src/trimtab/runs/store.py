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
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from trimtab import version
from trimtab.errors import ResultsError, UnknownNameError
from trimtab.files import replace_file
from trimtab.runs.batches import Facts
from trimtab.runs.identity import canonical, digest
from trimtab.runs.manifest import (
    AGAIN,
    check_same,
    check_whole,
    describe_scores,
    read_condition,
    read_manifest,
)
from trimtab.runs.record import (
    FORMAT,
    Row,
    Scored,
    dump_rows,
    dump_scores,
    load_rows,
    load_scores,
)
from trimtab.types import Group, Response

__all__ = ["Store", "read_groups", "read_manifest", "write_groups"]

GIVEN = 1024
"""Groups of a batch that `write_groups` writes."""

Rewards = Mapping[str, Mapping[str, Any]]
"""By name: the fingerprint and the folder of a reward, and its statistics where they are known."""


class Store:
    """A run's folder.

    Args:
        folder: where; made by `open`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # --- batches ---------------------------------------------------------------------------------

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

    # --- scores ----------------------------------------------------------------------------------

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

    # --- conditions ------------------------------------------------------------------------------

    def register(self, conditions: Iterable[Facts]) -> None:
        """Note which conditions are wanted, finished or not."""
        for facts in conditions:
            path = self.folder / "conditions" / f"{facts.key}.json"
            if not path.exists():
                text = json.dumps(facts.as_dict(), indent=1, sort_keys=True, ensure_ascii=False)
                with self.alone():
                    self.publish(path, f"{text}\n")

    def conditions(self) -> list[Facts]:
        """All conditions that were ever wanted, in the order of their keys."""
        return [read_condition(p) for p in sorted((self.folder / "conditions").glob("*.json"))]

    def condition(self, name: str | None = None) -> Facts:
        """One condition.

        Args:
            name: its key, title or label, perhaps with the split ("vas(beta=2)/test"); None takes
                the only one, else the only one of plain sampling.

        Raises:
            UnknownNameError: there is none of that name, or several.
        """
        known = self.conditions()
        if name is None:
            fitting = known if len(known) == 1 else [facts for facts in known if facts.plain]
        else:
            fitting = [facts for facts in known if name in _names(facts)]
        if len(fitting) != 1:
            kind = "a condition" if name is not None else "the condition, where there are several,"
            raise UnknownNameError(
                f"{kind} of {self.folder}",
                name,
                {f"{facts.title}/{facts.split}" for facts in known},
                do='name one of them as condition="..."' if fitting or name is None else "",
            )
        return fitting[0]

    # --- the manifest ----------------------------------------------------------------------------

    def open(
        self,
        about: Mapping[str, Any],
        rewards: Rewards,
        *,
        kept: bool,
        roles: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Begin a folder, or go on with one that was begun so.

        Args:
            about: what all that is in it depends on.
            rewards: `fingerprint` and `folder` by name; others of their name give way.
            kept: whether the run ends with all its rewards there, as `collect` does; a kept folder
                holds one job, while others take any condition and any reward.
            roles: names of the rewards that are the task's own "reward" and "judge".

        Returns:
            The manifest.

        Raises:
            ResultsError: the folder holds something else; the differences are named.
        """
        begun: dict[str, Any] = {
            "format": FORMAT,
            "trimtab": version.__version__,
            "about": about,
            "rewards": rewards,
        }
        begun |= {"complete": False} if kept else {}
        begun |= {"roles": roles} if roles else {}
        path = self.folder / "manifest.json"
        if not path.exists():
            with self.alone():
                if not path.exists():
                    self._write_manifest(begun)
        manifest = read_manifest(self.folder)
        check_same(self.folder, manifest, json.loads(json.dumps(begun)))
        if manifest.get("complete"):  # it changes at its end
            return manifest
        named = {**rewards} if kept else {**manifest["rewards"], **rewards}
        if named == manifest["rewards"] and (roles or {}) == manifest.get("roles", {}):
            return manifest
        with self.alone():
            changed = read_manifest(self.folder)
            named = {**rewards} if kept else {**changed["rewards"], **rewards}
            self._write_manifest(changed | {"rewards": named} | ({"roles": roles} if roles else {}))
        if kept:
            for gone in _folders(manifest["rewards"]) - _folders(rewards):
                self.forget(gone)
        return read_manifest(self.folder)

    def finish(self, rewards: Rewards | None = None) -> dict[str, Any]:
        """Say in a kept run's manifest that all is there, with statistics; clear the locks away.

        Args:
            rewards: `fingerprint` and `folder` by name of what was added, if anything was; another
                reward of such a name gives way.

        Raises:
            ResultsError: something is missing.
        """
        with self.alone():
            manifest, keys = read_manifest(self.folder), self.condition().batches
            named = manifest["rewards"] | dict(rewards or {})
            check_whole(self.folder, self.missing(keys, sorted(_folders(named))))
            old = _folders(manifest["rewards"])
            manifest["counts"] = self._counts(keys)
            manifest["rewards"] = {
                name: {"fingerprint": facts["fingerprint"], "folder": facts["folder"]}
                | describe_scores(
                    [
                        row.answers
                        for key in keys
                        for row in load_scores(self.scores_file(facts["folder"], key))
                    ]
                )
                for name, facts in named.items()
            }
            self._write_manifest(manifest | {"complete": True})
            for gone in old - _folders(named):
                self.forget(gone)
        manifest = read_manifest(self.folder)
        self.tidy(manifest)
        return manifest

    def _counts(self, keys: Iterable[str]) -> dict[str, Any]:
        """How many groups, responses and tokens there are, and why responses ended."""
        groups, responses, tokens, finish = 0, 0, 0, Counter[str]()
        for key in keys:
            for row in self.read(key, ledger=False):
                groups += 1
                responses += len(row.group.responses)
                tokens += sum(len(r.tokens) for r in row.group.responses)
                finish.update(r.finish or "given" for r in row.group.responses)
        return {"groups": groups, "responses": responses, "tokens": tokens, "finish": dict(finish)}

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False)
        self.publish(self.folder / "manifest.json", f"{text}\n")

    def tidy(self, manifest: Mapping[str, Any]) -> None:
        """Clear away what only working processes need. Late ones make themselves new locks.

        Args:
            manifest: of the folder, which is complete; another reward may be on its way.
        """
        rewards = [self.folder / "scores" / name for name in _folders(manifest["rewards"])]
        parts = (self.folder, self.folder / "records", self.folder / "conditions", *rewards)
        for folder in parts:
            for part in folder.glob(".*.part"):
                part.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "locks", ignore_errors=True)

    def write_table(self, name: str, text: str) -> Path:
        """Write `tables/<name>`."""
        path = self.folder / "tables" / name
        with self.alone():
            self.publish(path, text)
        return path

    # --- writing ---------------------------------------------------------------------------------

    def publish(self, path: Path, data: str | bytes) -> None:
        """Write a file, which this process has claimed, whole or not at all."""
        with writing(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data, locked=True)

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Whether this process may work on `name` now; False where another one does."""
        try:
            lock = self._lock(name, timeout=0)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process changes the manifest, a condition or a table meanwhile."""
        lock = self._lock("folder", timeout=-1)
        try:
            yield
        finally:
            lock.release()

    def _lock(self, name: str, timeout: float) -> FileLock:
        """A lock that is held; the death of its process frees it."""
        folder = self.folder / "locks"
        with writing(self.folder):
            while True:
                folder.mkdir(parents=True, exist_ok=True)
                lock = FileLock(folder / name)
                try:
                    lock.acquire(timeout=timeout)
                    return lock
                except FileNotFoundError:  # another process has just cleared the locks away
                    continue


def _names(facts: Facts) -> set[str]:
    names = {facts.title, facts.label}
    return {facts.key, *names, *(f"{name}/{facts.split}" for name in names)}


def _folders(rewards: Rewards) -> set[str]:
    return {facts["folder"] for facts in rewards.values()}


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Says plainly what a failed write means for the work.

    Raises:
        ResultsError: no room on the disk, no right to write.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, Timeout):  # a lock that is held is no failure
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise ResultsError(
            "results must be written "
            + ("to a disk with room" if full else "to a folder of yours"),
            got=f"{error.strerror or error} in {folder}",
            do=("make room" if full else "name another folder")
            + " and run it again: what is finished is kept",
        ) from error


# --- groups --------------------------------------------------------------------------------------


def read_groups(
    folder: str | Path,
    condition: str | None = None,
    *,
    partial: bool = False,
    ledger: bool = True,
) -> tuple[Group, ...]:
    """The groups of a run in the order of their prompts, with all rewards that were asked.

    A response that a reward could not score lacks that reward's name.

    Args:
        folder: what `collect`, `evaluate`, `sweep` or `write_groups` wrote.
        condition: which one, of several: its title, such as "vas(beta=2) by mine", or its label,
            perhaps with the split ("sampling/test"); None takes the only one, else the only one of
            plain sampling.
        partial: take what is there of a run that is not finished.
        ledger: False leaves the ledgers out, and with them the log-probabilities: faster.

    Raises:
        ResultsError: the run is not finished, or a file is damaged; the message names it.
        UnknownNameError: no condition of that name, or several; those that there are are listed.
    """
    store, manifest = Store(folder), read_manifest(folder)
    if partial and not any(store.folder.glob("conditions/*.json")):  # it had only just begun
        return ()
    facts = store.condition(condition)
    names = {name: reward["folder"] for name, reward in manifest["rewards"].items()}
    if not partial:
        wanted = names.values() if "complete" in manifest else ()
        check_whole(store.folder, store.missing(facts.batches, wanted))
        if not manifest.get("complete", True):
            raise ResultsError(
                f"the groups in {folder} must be complete", got="a job that did not end", do=AGAIN
            )
    groups: list[Group] = []
    for key in facts.batches:
        if store.has(key):
            groups += _rewarded(store, store.read(key, ledger=ledger), key, names)
    return tuple(groups)


def _rewarded(
    store: Store, rows: Sequence[Row], key: str, rewards: Mapping[str, str]
) -> Iterator[Group]:
    """A batch's groups with those rewards that are there (name to folder)."""
    given: list[list[dict[str, float]]] = [[{} for _ in row.group.responses] for row in rows]
    for name, folder in rewards.items():
        for scores, scored in zip(given, store.scores(folder, key) or (), strict=False):
            for of_response, answer in zip(scores, scored.answers, strict=True):
                if isinstance(answer, float):
                    of_response[name] = answer
    for row, scores in zip(rows, given, strict=True):
        group = row.group
        responses = tuple(
            Response(r.tokens, r.text, r.finish, r.ledger, of_response)
            for r, of_response in zip(group.responses, scores, strict=True)
        )
        yield Group(group.prompt, responses, group.topic, group.prefix)


def write_groups(
    folder: str | Path, groups: Sequence[Group], about: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Keep groups that come from elsewhere, such as human preferences.

    Args:
        folder: a new one, or one that an earlier call of the same groups began.
        groups: in the order in which `read_groups` gives them back.
        about: what made them, as plain JSON types; `about` of the manifest.

    Returns:
        The manifest.

    Raises:
        ResultsError: the folder holds other groups, or it cannot be written.

    >>> import tempfile
    >>> from trimtab.types import Prompt, Response
    >>> chosen, rejected = Response((3, 0), "tea"), Response((4, 0), "rain")
    >>> group = Group(Prompt((5, 6), "What do you like?"), (chosen, rejected), topic="likes")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     counts = write_groups(folder, [group], {"source": "a friend"})["counts"]
    ...     read_groups(folder) == (group,), counts["responses"]
    (True, 2)
    """
    store = Store(folder)
    rows = [Row(f"{i}", group) for i, group in enumerate(groups)]
    batches = [rows[i : i + GIVEN] for i in range(0, len(rows), GIVEN)]
    names = sorted({name for group in groups for r in group.responses for name in r.rewards})
    rewards = {name: _given(name) for name in names}
    files: dict[Path, bytes] = {}
    keys: list[str] = []
    for i, batch in enumerate(batches):
        texts = dump_rows(batch)
        keys.append(digest([i, sha256(texts).hexdigest()]))
        files[store.record(keys[-1])] = texts
        for name, reward in rewards.items():
            scored = [Scored(row.id, "", _answers(row.group, name)) for row in batch]
            files[store.scores_file(reward["folder"], keys[-1])] = dump_scores(scored)
    content = sha256(b"".join(files.values())).hexdigest()
    prompts = {"count": len(groups), "fingerprint": content}
    facts = Facts(digest(keys), "given", "", "given", prompts, tuple(keys))
    store.open({**(about or {}), "sha256": content}, rewards, kept=True)
    store.register([facts])
    for path, data in files.items():
        store.publish(path, data)
    return store.finish()


def _answers(group: Group, name: str) -> tuple[float | None, ...]:
    scores = [response.rewards.get(name) for response in group.responses]
    return tuple(None if score is None else float(score) for score in scores)


def _given(name: str) -> dict[str, str]:
    """What the manifest says of a reward whose scores were given."""
    fingerprint = digest(["given", name])
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return {"fingerprint": fingerprint, "folder": f"{plain}-{fingerprint[:8]}"}
