"""Every test runs on one thread, and every step that any test decodes is held to the laws.

Two spinning threads on a busy machine are many times slower than one.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def steps_obey_the_laws() -> Iterator[None]:
    """See `tests.steps`: holds whatever a test is about."""
    from tests.steps import watched

    with watched():
        yield
