"""The sentiment judge's ridge: `python -m recipes.rated hutto_ICWSM_2014.tar.gz`. Needs MiniLM.

The archive lies in `additional_resources/` of vaderSentiment 3.3.2's source package (MIT). One
fifth of its reviews, editorials and tweets is held out, whole documents at a time; the figures
printed are for those, and so are the rows stored for the tests. The ridge sees the rest only.
"""

from __future__ import annotations

import hashlib
import html
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr

from recipes.packages import checked, store
from trimtab.rewards import encoder

SHA256 = "d5bb07d87474b3eb8d30b4deccbc23f19d742a6c5718fbacc65485b70b95c5fa"
SOURCES = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets", "tweets")
ALPHAS = (0.1, 0.3, 1.0, 3.0, 10.0)
KEPT = 150  # held-out rows per kind of review that the tests read
TESTS = Path(__file__).parents[1] / "tests" / "rewards" / "data" / "held_out_ratings.tsv"


class Row(NamedTuple):
    """One rated sentence and which fifth its document fell into."""

    source: str
    fifth: int
    rating: float
    text: str


def rows(archive: str) -> Iterator[Row]:
    """All rated sentences."""
    with tarfile.open(checked(archive, SHA256)) as tar:
        for source in SOURCES:
            file = tar.extractfile(f"hutto_ICWSM_2014/{source}_GroundTruth.txt")
            assert file is not None
            for line in file.read().decode("latin-1").split("\n"):
                if line.strip():
                    key, rating, text = line.rstrip("\r").split("\t")
                    name = f"{source}:{key.split('_')[0]}"  # "3_2": sentence 2 of document 3
                    fifth = hashlib.sha256(name.encode()).digest()[0] % 5
                    yield Row(source, fifth, float(rating), html.unescape(text).strip())


def ridge(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], alpha: float) -> tuple[Any, float]:
    """The closed form, with an intercept that is not shrunk."""
    mean, centre = x.mean(0), y.mean()
    gram = (x - mean).T @ (x - mean) + alpha * np.eye(x.shape[1])
    weight = np.linalg.solve(gram, (x - mean).T @ (y - centre))
    return weight, float(centre - mean @ weight)


def main(archive: str) -> None:
    """Fits, prints the held-out figures, writes rated.safetensors and the tests' rows."""
    table = list(rows(archive))
    torch.set_num_threads(1)
    x = encoder()([row.text for row in table]).double().numpy()
    y = np.array([row.rating for row in table])
    fifth = np.array([row.fifth for row in table])
    source = np.array([row.source for row in table])
    inner, check, held = fifth >= 2, fifth == 1, fifth == 0

    def spearman(alpha: float) -> float:
        weight, bias = ridge(x[inner], y[inner], alpha)
        return float(spearmanr(x[check] @ weight + bias, y[check])[0])

    alpha = max(ALPHAS, key=spearman)
    weight, bias = ridge(x[~held], y[~held], alpha)
    print(f"alpha {alpha}, {(~held).sum()} rows; held out: {held.sum()}")
    for name in ("", *SOURCES):
        part = held & ((source == name) | (name == ""))
        rho = spearmanr(x[part] @ weight + bias, y[part])[0]
        print(f"  {name or 'all':22} {part.sum():5} rows  Spearman {rho:.3f}")
    store("rated", {"weight": np.asarray(weight, np.float32), "bias": np.array([bias], np.float32)})
    kept = [
        r for s in SOURCES[:2] for r in [r for r in table if r.source == s and not r.fifth][:KEPT]
    ]
    TESTS.write_text("".join(f"{r.rating:.3f}\t{r.text}\n" for r in kept), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
