"""Groups in a run's folder: what any run has written is read, what comes from elsewhere is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from trimtab.errors import ResultsError
from trimtab.runs.batches import Facts
from trimtab.runs.identity import digest
from trimtab.runs.record import AGAIN, Row, Scored, dump_rows, dump_scores, read_manifest
from trimtab.runs.resolve import folder_name
from trimtab.runs.store import Store
from trimtab.types import Group

GIVEN = 1024
"""Groups of a batch that `write_groups` writes."""


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
        store.check_whole(facts.batches, wanted)
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
        responses = zip(row.group.responses, scores, strict=True)
        yield replace(row.group, responses=tuple(replace(r, rewards=of) for r, of in responses))


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
    rewards = {}
    for name in names:
        known = digest(["given", name])
        rewards[name] = {"fingerprint": known, "folder": folder_name(name, known)}
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
