"""The files of a folder of groups: their names, who may write them, and what the manifest says.

`store` reads and writes whole folders; this is what it and the collector share.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

import trimtab
from trimtab.evaluation.store import writing
from trimtab.files import replace_file
from trimtab.training.counts import count, describe
from trimtab.training.manifest import FORMAT, check_same, check_whole, read_manifest
from trimtab.training.shards import Row, Said, dump_rows, dump_scores, load_rows, load_scores
from trimtab.types import Group


class GroupFolder:
    """A folder of groups.

    Args:
        folder: where; made by `open`.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    # --- shards ----------------------------------------------------------------------------------

    def groups(self, shard: int) -> Path:
        """The file of a shard's groups."""
        return self.folder / "groups" / f"{shard:05d}.parquet"

    def scores(self, reward: str, shard: int) -> Path:
        """The file of a shard's scores by the reward of that folder."""
        return self.folder / "rewards" / reward / f"{shard:05d}.parquet"

    def missing(self, shards: int, rewards: Sequence[str]) -> list[str]:
        """The files that a complete folder would have and this one has not."""
        wanted = [self.groups(i) for i in range(shards)]
        wanted += [self.scores(reward, i) for reward in rewards for i in range(shards)]
        return [str(path.relative_to(self.folder)) for path in wanted if not path.exists()]

    def write_rows(self, shard: int, rows: Sequence[Row]) -> None:
        """Publish a shard's groups."""
        self.publish(self.groups(shard), dump_rows(rows))

    def write_scores(
        self, reward: str, shard: int, rows: Sequence[Row], said: Sequence[Sequence[Said]]
    ) -> None:
        """Publish what a reward said of a shard's responses."""
        self.publish(self.scores(reward, shard), dump_scores(rows, said))

    def forget(self, reward: str) -> None:
        """Drop all scores by the reward of that folder."""
        shutil.rmtree(self.folder / "rewards" / reward, ignore_errors=True)

    def joined(self, shard: int, rewards: Mapping[str, str]) -> list[tuple[int, Group]]:
        """A shard's groups by index, with those rewards that are there (name to folder)."""
        rows = load_rows(self.groups(shard))
        found: list[list[dict[str, float]]] = [[{} for _ in r.group.responses] for r in rows]
        for name, at in rewards.items():
            path = self.scores(at, shard)
            for of_row, said in zip(
                found, load_scores(path) if path.exists() else [], strict=False
            ):
                for scores, value in zip(of_row, said, strict=True):
                    if isinstance(value, float):
                        scores[name] = value
        return [
            (row.index, _rewarded(row.group, of_row))
            for row, of_row in zip(rows, found, strict=True)
        ]

    def publish(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all; a dead process' beginnings are in nobody's way."""
        with writing(self.folder):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, data)

    # --- the manifest ----------------------------------------------------------------------------

    def open(
        self,
        about: Mapping[str, Any],
        shards: int,
        rewards: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Any]:
        """Begin a folder, or go on with one that was begun so.

        Args:
            about: what its groups depend on.
            shards: how many there will be.
            rewards: `fingerprint` and `folder` by name; others of their name give way.

        Returns:
            The manifest.

        Raises:
            DataError: the folder holds something else; the differences are named.
        """
        begun = {
            "format": FORMAT,
            "trimtab": trimtab.__version__,
            "complete": False,
            "shards": shards,
            "about": about,
            "rewards": rewards,
        }
        path = self.folder / "manifest.json"
        if not path.exists():
            with self.alone():
                if not path.exists():
                    self._write_manifest(begun)
        found = read_manifest(self.folder)
        check_same(self.folder, found, json.loads(json.dumps(begun)))
        kept = {facts["folder"] for facts in rewards.values()}
        gone = {facts["folder"] for facts in found["rewards"].values()} - kept
        if found["complete"] or not gone:  # a complete one changes at its end
            return found
        with self.alone():
            self._write_manifest(found | {"rewards": rewards})
        for folder in gone:
            self.forget(folder)
        return read_manifest(self.folder)

    def finish(self, rewards: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Say in the manifest that all is there, with its statistics, and clear the locks away.

        Args:
            rewards: `fingerprint` and `folder` by name of what was added, if anything was; another
                reward of such a name gives way.

        Raises:
            DataError: something is missing.
        """
        with self.alone():
            manifest = read_manifest(self.folder)
            old = {facts["folder"] for facts in manifest["rewards"].values()}
            named = manifest["rewards"] | dict(rewards or {})
            kept = {facts["folder"] for facts in named.values()}
            check_whole(self.folder, self.missing(manifest["shards"], sorted(kept)))
            shards = range(manifest["shards"])
            manifest["counts"] = count(row for i in shards for row in load_rows(self.groups(i)))
            manifest["rewards"] = {
                name: {"fingerprint": facts["fingerprint"], "folder": facts["folder"]}
                | describe(
                    [x for i in shards for x in load_scores(self.scores(facts["folder"], i))]
                )
                for name, facts in named.items()
            }
            self._write_manifest(manifest | {"complete": True})
            for gone in old - kept:
                self.forget(gone)
        found = read_manifest(self.folder)
        self.tidy(found)
        return found

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        text = json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        self.publish(self.folder / "manifest.json", text.encode())

    def tidy(self, manifest: Mapping[str, Any]) -> None:
        """Clear away what only working processes need. Late ones make themselves new locks.

        Args:
            manifest: of the folder, which is complete; another reward may be on its way.
        """
        rewards = [self.folder / "rewards" / f["folder"] for f in manifest["rewards"].values()]
        for at in (self.folder, self.folder / "groups", *rewards):
            for part in at.glob(".*.part"):
                part.unlink(missing_ok=True)
        shutil.rmtree(self.folder / "locks", ignore_errors=True)

    # --- locks -----------------------------------------------------------------------------------

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
        """No other process opens or finishes the folder meanwhile."""
        lock = self._lock("folder", timeout=-1)
        try:
            yield
        finally:
            lock.release()

    def _lock(self, name: str, timeout: float) -> FileLock:
        """A lock that is held; the death of its process frees it."""
        at = self.folder / "locks"
        with writing(self.folder):
            while True:
                at.mkdir(parents=True, exist_ok=True)
                lock = FileLock(at / name)
                try:
                    lock.acquire(timeout=timeout)
                    return lock
                except FileNotFoundError:  # another process has just cleared the locks away
                    continue


def _rewarded(group: Group, rewards: Sequence[Mapping[str, float]]) -> Group:
    pairs = zip(group.responses, rewards, strict=True)
    return replace(group, responses=tuple(replace(r, rewards=found) for r, found in pairs))
