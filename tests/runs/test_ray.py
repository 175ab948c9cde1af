"""A cluster of two nodes, one of which dies: nothing lost, nothing doubled, the same bytes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import toys
from tests.runs.killed import sevens
from tests.runs.world import files
from trimtab.errors import RewardError, UsageError
from trimtab.runs import Processes, Progress, collect, read_manifest, relabel
from trimtab.types import Sample

ray = pytest.importorskip("ray")
OPEN = partial(toys.language_model, base_temperature=0.7)


class Slow:
    """Sevens, with time for a node to be killed; notes which node asks."""

    fingerprint = "slow"

    def __init__(self, log: Path) -> None:
        self.log = log

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        if ray.is_initialized():
            node = ray.get_runtime_context().get_node_id()
            with self.log.open("a") as out:
                out.write(f"{node}\n")
            time.sleep(0.3)
        return sevens(samples, responses)

    def nodes(self) -> list[str]:
        return self.log.read_text().split() if self.log.exists() else []


class Broken:
    """Cannot be asked at all."""

    fingerprint = "broken"

    def __call__(self, samples: Sequence[Sample], responses: Sequence[str]) -> list[float]:
        raise ValueError("no")


def asked() -> list[Sample]:
    return [Sample(f"w{i} w{i + 1} w{i + 2}", f"w{i}") for i in range(3, 43)]


def job(folder: Path, reward: Slow, **options: Any) -> dict[str, Any]:
    return collect(
        OPEN(), asked(), folder, rewards=[reward], n=3, rows=6, max_new_tokens=8, **options
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100_000_000}
    made = Cluster(initialize_head=True, head_node_args=node)
    try:
        ray.init(address=made.address, log_to_driver=False)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.slow
def test_a_node_that_is_killed_loses_and_doubles_nothing(cluster: Any, tmp_path: Path) -> None:
    other = cluster.add_node(num_cpus=1, object_store_memory=100_000_000)
    cluster.wait_for_nodes()
    reward, killed = Slow(tmp_path / "nodes"), list[int]()

    def kill(progress: Progress) -> None:
        if not killed and reward.nodes().count(other.node_id) >= 2:
            killed.append(progress.done)
            cluster.remove_node(other, allow_graceful=False)

    manifest = job(tmp_path / "ray", reward, processes=Processes(2, OPEN, "ray"), on=kill)
    assert killed, "both nodes have worked"
    counts = manifest["counts"]
    assert killed[0] < counts["responses"] == 3 * counts["groups"]
    assert len(set(reward.nodes())) == 2
    ray.shutdown()
    job(tmp_path / "alone", reward)
    assert files(tmp_path / "ray") == files(tmp_path / "alone")
    ray.init(address=cluster.address, log_to_driver=False)


@pytest.mark.slow
def test_errors_of_a_node_are_said_as_those_of_this_process(cluster: Any, tmp_path: Path) -> None:
    assert cluster
    reward = Slow(tmp_path / "nodes")
    with pytest.raises(UsageError, match="no opener"):
        job(tmp_path / "run", reward, processes=Processes(2, on="ray"))
    other = partial(toys.language_model, base_temperature=0.9)
    with pytest.raises(UsageError, match="must open the model of the job"):
        job(tmp_path / "run", reward, processes=Processes(2, other, "ray"))
    job(tmp_path / "run", reward, processes=Processes(2, OPEN, "ray"))
    with pytest.raises(RewardError, match="ValueError: no"):
        relabel(tmp_path / "run", [Broken()], processes=Processes(1, on="ray"))
    assert read_manifest(tmp_path / "run")["complete"]


def test_a_cluster_that_is_not_there_is_said(tmp_path: Path) -> None:
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(UsageError, match="the Ray cluster must be there; got 127.0.0.1:1"):
        job(tmp_path, Slow(tmp_path / "nodes"), processes=Processes(1, OPEN, "127.0.0.1:1"))
