"""A folder of groups: what guides are trained on, whoever wrote it.

    <folder>/manifest.json            what made the groups, whether all are there, their statistics
    <folder>/groups/00000.parquet     one row per prompt with all of its responses
    <folder>/rewards/<reward>/00000.parquet
                                      the scores of the responses of the shard of that number
    <folder>/locks/                   while processes work; gone when all is done

Every file takes its name by one atomic rename. Rewards lie apart, so that another one is added
without a text being written again. Nothing in the folder tells when it was made, or by how many
processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from trimtab.errors import DataError
from trimtab.runs.identity import digest
from trimtab.training.folder import GroupFolder
from trimtab.training.manifest import AGAIN, check_whole, read_manifest
from trimtab.training.shards import Row, Said, dump_rows, dump_scores
from trimtab.types import Group

__all__ = ["read_groups", "read_manifest", "write_groups"]

SHARD = 1024
"""Groups of a shard that `write_groups` writes."""


def read_groups(folder: str | Path, *, partial: bool = False) -> tuple[Group, ...]:
    """The groups of a folder in the order of their prompts, with all of their rewards.

    A response that a reward could not score lacks that reward's name.

    Args:
        folder: what `trimtab collect` or `write_groups` wrote.
        partial: take what is there of a folder that is not complete.

    Raises:
        DataError: the folder is not complete, or a file is damaged; the message names it.
    """
    there, manifest = GroupFolder(folder), read_manifest(folder)
    names = {name: facts["folder"] for name, facts in manifest["rewards"].items()}
    if not partial:
        check_whole(there.folder, there.missing(manifest["shards"], list(names.values())))
        if not manifest["complete"]:
            raise DataError(
                f"the groups in {folder} must be complete", got="a job that did not end", do=AGAIN
            )
    found: list[tuple[int, Group]] = []
    for shard in range(manifest["shards"]):
        if there.groups(shard).exists():
            found += there.joined(shard, names)
    return tuple(group for _, group in sorted(found, key=lambda pair: pair[0]))


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
        DataError: the folder holds other groups.
        ResultsError: it cannot be written.

    >>> import tempfile
    >>> from trimtab.types import Prompt, Response
    >>> chosen, rejected = Response((3, 0), "tea"), Response((4, 0), "rain")
    >>> group = Group(Prompt((5, 6), "What do you like?"), (chosen, rejected), topic="likes")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     counts = write_groups(folder, [group], {"source": "a friend"})["counts"]
    ...     read_groups(folder) == (group,), counts["responses"]
    (True, 2)
    """
    there = GroupFolder(folder)
    rows = [Row(i, group) for i, group in enumerate(groups)]
    shards = [rows[i : i + SHARD] for i in range(0, len(rows), SHARD)]
    names = sorted({name for group in groups for r in group.responses for name in r.rewards})
    rewards = {name: _identity(name) for name in names}
    files: dict[Path, bytes] = {}
    for i, shard in enumerate(shards):
        files[there.groups(i)] = dump_rows(shard)
        for name in names:
            said = [_given(row.group, name) for row in shard]
            files[there.scores(rewards[name]["folder"], i)] = dump_scores(shard, said)
    content = sha256(b"".join(files.values())).hexdigest()
    there.open({**(about or {}), "sha256": content}, len(shards), rewards)
    for path, data in files.items():
        there.publish(path, data)
    return there.finish()


def _given(group: Group, name: str) -> list[Said]:
    found = [response.rewards.get(name) for response in group.responses]
    return [None if score is None else float(score) for score in found]


def _identity(name: str) -> dict[str, str]:
    """What the manifest says of a reward whose scores were given."""
    fingerprint = digest(["given", name])
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return {"fingerprint": fingerprint, "folder": f"{plain}-{fingerprint[:8]}"}
