"""The profanity classifier as safetensors: `python -m recipes.profanity WHEEL`.

The wheel is alt-profanity-check 1.9.1 (MIT): five linear SVMs on tf-idf, each with a logistic
calibration, whose probabilities are averaged.
"""

from __future__ import annotations

import sys
import zipfile
from typing import Any

import numpy as np

from recipes.packages import checked, store
from recipes.restricted_pickle import read

SHA256 = "cccb8ce072306bac21188670777a25cfb1de978aa8c7a93c8e4a43c03b3945c3"
ALLOWED = {
    ("joblib.numpy_pickle", "NumpyArrayWrapper"),
    ("numpy", "dtype"),
    ("numpy", "float64"),
    ("numpy", "ndarray"),
    ("numpy._core.multiarray", "scalar"),
    ("sklearn.calibration", "CalibratedClassifierCV"),
    ("sklearn.calibration", "_CalibratedClassifier"),
    ("sklearn.calibration", "_SigmoidCalibration"),
    ("sklearn.feature_extraction.text", "TfidfTransformer"),
    ("sklearn.feature_extraction.text", "TfidfVectorizer"),
    ("sklearn.svm._classes", "LinearSVC"),
}


def _number(scalar: Any) -> float:
    """A numpy scalar: its type and its eight bytes."""
    return float(np.frombuffer(scalar.args[1], "<f8")[0])


def main(wheel: str) -> None:
    """Writes profanity.safetensors and profanity.words.txt."""
    with zipfile.ZipFile(checked(wheel, SHA256)) as archive:
        model = read(archive.read("profanity_check/data/model.joblib"), ALLOWED)
        vectorizer = read(archive.read("profanity_check/data/vectorizer.joblib"), ALLOWED)
    folds = model.calibrated_classifiers_
    curves = [fold.calibrators[0] for fold in folds]
    arrays = {
        "idf": vectorizer._tfidf.idf_,
        "coef": np.concatenate([fold.estimator.coef_ for fold in folds]),
        "intercept": np.concatenate([fold.estimator.intercept_ for fold in folds]),
        "slope": np.array([_number(curve.a_) for curve in curves]),
        "offset": np.array([_number(curve.b_) for curve in curves]),
    }
    words = sorted(vectorizer.vocabulary_, key=vectorizer.vocabulary_.__getitem__)
    store("profanity", {name: a.astype(np.float32) for name, a in arrays.items()}, words)


if __name__ == "__main__":
    main(*sys.argv[1:])
