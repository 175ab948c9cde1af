from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import trimtab as tt
from trimtab.errors import GuideError, UsageError
from trimtab.models.transformers import Codec
from trimtab.types import Candidates, Prompt


def ones(tokens: list[list[list[int]]]) -> Candidates:
    t = torch.tensor(tokens)
    b, k, length = t.shape
    return Candidates(
        t,
        torch.zeros(b, k),
        torch.full((b, k), length),
        torch.zeros(b, k, dtype=torch.bool),
    )


def count_a(prompts: list[str], texts: list[str]) -> list[float]:
    return [float(text.count("a")) for text in texts]


def test_scores_prefix_with_candidate() -> None:
    lm, seen = tt.TableLM(5), list[Any]()

    def score(prompts: list[str], texts: list[str]) -> list[float]:
        seen.extend(zip(prompts, texts, strict=True))
        return count_a(prompts, texts)

    guide = tt.TextGuide(score, lm.decode)
    state = guide.prefill([lm.encode("ab"), Prompt((3,))])
    state = guide.extend(state, torch.tensor([[1, 2], [1, 0]]), torch.tensor([2, 1]))
    got = guide.score(state, ones([[[1], [0]], [[1], [4]]]))
    assert seen == [("ab", "aba"), ("ab", "ab"), ("c", "aa"), ("c", "ad")]
    assert got.tolist() == [[2, 1], [2, 1]]


def test_same_texts_are_scored_once() -> None:
    guide = tt.TextGuide(count_a, tt.TableLM(5).decode)
    state = guide.prefill([Prompt((1,), "x")])
    state = guide.select(state, torch.tensor([0, 0]))
    assert guide.score(state, ones([[[1], [0]], [[1], [2]]])).shape == (2, 2)
    assert (guide.cost.scored, guide.cost.forwards) == (3, 1)


def test_batch_size_and_tensors() -> None:
    sizes = []

    def score(prompts: list[str], texts: list[str]) -> torch.Tensor:
        sizes.append(len(texts))
        return torch.arange(len(texts))

    guide = tt.TextGuide(score, tt.TableLM(5).decode, batch_size=2)
    guide.score(guide.prefill([Prompt((1,))]), ones([[[1], [2], [3]]]))
    assert sizes == [2, 1]
    with pytest.raises(UsageError, match="batch_size"):
        tt.TextGuide(score, str, batch_size=0)


def test_steers() -> None:
    lm = tt.TableLM(5)
    guide = tt.TextGuide(count_a, lm.decode)
    done = tt.decode(lm, guide, tt.args(100.0, k=5), ["b", "cd"], max_new_tokens=6, n=2)
    assert {c.text for c in done} == {"aaaaaa"}


def byte_level() -> Codec:
    """Bytes as tokens: every character beyond ASCII spans several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    return Codec(PreTrainedTokenizerFast(tokenizer_object=inner))


def test_characters_that_span_tokens() -> None:
    codec, seen = byte_level(), []

    def score(prompts: list[str], texts: list[str]) -> list[float]:
        seen.extend(texts)
        return [0.0] * len(texts)

    ids = list(codec.encode("né").ids)
    assert len(ids) == 3
    guide = tt.TextGuide(score, codec.decode)
    state = guide.prefill([Prompt((1,), "p")])
    state = guide.extend(state, torch.tensor([ids[:1]]), torch.tensor([1]))
    guide.score(state, ones([[[ids[1]]]]))
    state = guide.extend(state, torch.tensor([ids[1:2]]), torch.tensor([1]))
    guide.score(state, ones([[[ids[2]]]]))
    assert seen == ["n", "né"]


def broken(result: Any) -> Any:
    def score(prompts: list[str], texts: list[str]) -> Any:
        if isinstance(result, Exception):
            raise result
        return result

    return score


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ([1.0], "1 results for 2 texts"),
        (None, "TypeError: 'NoneType' object is not iterable"),
        ([1.0, "2"], "'2'"),
        ([None, 1.0], "None"),
        (torch.zeros(2, 3), "tensor"),
        (KeyError("no such word"), "KeyError: 'no such word' in a batch of 2"),
    ],
)
def test_bad_functions(result: Any, words: str) -> None:
    guide = tt.TextGuide(broken(result), tt.TableLM(5).decode, name="mine")
    with pytest.raises(GuideError) as error:
        guide.score(guide.prefill([Prompt((1,), "ask")]), ones([[[1], [2]]]))
    text = str(error.value)
    assert words in text
    assert "guide 'mine' must return one number for each text" in text
    assert "prompt 'ask', text '" in text
    assert "\n" not in text


def test_exceptions_are_chained() -> None:
    guide = tt.TextGuide(broken(ZeroDivisionError("by zero")), tt.TableLM(5).decode)
    with pytest.raises(GuideError) as error:
        guide.score(guide.prefill([Prompt((1,))]), ones([[[1]]]))
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_nan_is_left_to_the_loop() -> None:
    lm = tt.TableLM(5)
    guide = tt.TextGuide(broken([float("nan")]), lm.decode)
    assert guide.score(guide.prefill([Prompt((1,))]), ones([[[1]]])).isnan().all()


def test_repr_names_the_function() -> None:
    assert repr(tt.TextGuide(count_a, str, name="a")) == "TextGuide('a', count_a)"
