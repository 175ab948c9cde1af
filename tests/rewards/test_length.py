"""Length, in words and in tokens."""

from __future__ import annotations

import pytest

import trimtab as tt
from tests.needs import needs_asset
from tests.toys import samples
from trimtab.errors import NotFetchedError
from trimtab.rewards import reward
from trimtab.rewards.length import _tokenizer


def test_brevity_counts_words_and_marks() -> None:
    assert reward("words")(samples("", ""), ["Well, yes.", ""]) == [4.0, 0.0]
    assert reward("brevity")(samples("", ""), ["Well, yes.", ""]) == [-4.0, 0.0]


@needs_asset("smollm2")
def test_conciseness_is_minus_the_tokens_that_the_embedded_model_emitted() -> None:
    lm = tt.TransformersLM("smollm2", device="cpu", base_temperature=0.7)
    done = tt.decode(lm, None, tt.sampling(), ["Why is the sea salt?"], n=4, max_new_tokens=24)
    emitted = [len(c.tokens) - (c.finish == "eos") for c in done]
    texts = [c.text for c in done]
    assert reward("length")(samples(*texts), texts) == [float(n) for n in emitted]
    assert reward("conciseness")(samples(*texts), texts) == [-float(n) for n in emitted]
    assert list(reward("conciseness")([], [])) == []


def test_without_the_model_the_command_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("TRIMTAB_CACHE", str(tmp_path))
    _tokenizer.cache_clear()
    with pytest.raises(NotFetchedError, match="trimtab assets fetch smollm2"):
        reward("conciseness")(samples("x"), ["some text"])
