"""The formality classifier as safetensors: `python -m recipes.formality SDIST RATINGS`.

The source package is squinky 0.1.0 (MIT): a logistic regression on binary features of a sentence.
Its vocabulary holds parts of speech, phrases and stems, which would need other people's models, and
110,000 features of the tokens themselves; of these the ones are kept that weigh 0.02 or more.

The ratings are hutto_ICWSM_2014.tar.gz (see `rated`), for the figures that are printed: how well
editorials are told from tweets and reviews by the classifier as it is stored.
"""

from __future__ import annotations

import sys
import tarfile
from typing import Any

import numpy as np
from scipy.stats import mannwhitneyu

from recipes.packages import checked, store
from recipes.rated import SOURCES, rows
from recipes.restricted_pickle import read
from trimtab import rewards

SHA256 = "c0e9f8c7ed42e8c2c80e6f601d503af9429ca76567c9478635c84875c9ebc147"
ALLOWED = {
    ("numpy", "dtype"),
    ("numpy", "float64"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("sklearn.feature_extraction.dict_vectorizer", "DictVectorizer"),
    ("sklearn.linear_model.logistic", "LogisticRegression"),
}
NAMES = {
    "IND_": "at ",
    "CUR_": "word ",
    "LEM_": "lower ",
    "PAT_": "shape ",
    "PRV_": "before ",
    "NXT_": "after ",
    **{f"PRE_prefix_{n}_": f"first{n} " for n in (3, 4, 5)},
    **{f"SUF_suffix_{n}_": f"last{n} " for n in (3, 4, 5)},
}
"""Ours by theirs. A lemma is taken for the word in lower case, which it mostly is."""
LEAST = 0.02


def _array(bare: Any) -> np.ndarray[Any, Any]:
    """An array of doubles from its pickled state: version, shape, dtype, order, bytes."""
    _, shape, kind, columns_first, data = bare.state
    assert kind.args[0] == "f8"
    return np.frombuffer(data, "<f8").reshape(shape, order="F" if columns_first else "C")


def _ours(name: str) -> str | None:
    return next((n + name.removeprefix(t) for t, n in NAMES.items() if name.startswith(t)), None)


def main(sdist: str, ratings: str) -> None:
    """Writes formality.safetensors and formality.words.txt, and prints how well they tell."""
    with tarfile.open(checked(sdist, SHA256)) as tar:
        model, vectorizer = (
            read(file.read(), ALLOWED)
            for part in ("models/form_classifier.p", "vectorizers/form_vectorizer.p")
            if (file := tar.extractfile(f"squinky-0.1.0/squinky/{part}"))
        )
    weights = -_array(model.coef_)[0]  # the classes are F, formal, and R: theirs are odds of R
    kept = {
        ours: weights[column]
        for name, column in sorted(vectorizer.vocabulary_.items())
        if (ours := _ours(name)) and abs(weights[column]) >= LEAST
    }
    arrays = {"weight": np.array(list(kept.values())), "bias": -_array(model.intercept_)}
    store("formality", {name: a.astype(np.float32) for name, a in arrays.items()}, kept)
    _report(ratings)


def _report(ratings: str) -> None:
    table = list(rows(ratings))
    scores = {
        source: rewards.find("formality")([], [row.text for row in table if row.source == source])
        for source in SOURCES
    }
    editorials = scores.pop("nytEditorialSnippets")
    for source, others in scores.items():
        auc = mannwhitneyu(editorials, others).statistic / len(editorials) / len(others)
        print(f"editorials against {source:22} {len(others):6} rows  AUC {auc:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
