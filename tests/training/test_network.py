"""Responses that share the reading of their prompt say what they would alone, in every family."""

from __future__ import annotations

import pytest
import torch

from tests import toys
from trimtab.training.examples import (
    Example,
    LikeLengths,
    Row,
    collate,
    to_batch,
    to_network,
    token_scores,
)
from trimtab.training.network import GuideNetwork, make_head, make_network, rescale

EXAMPLES = [
    Example(
        (5, 6, 7, 8, 9, 10, 11), (Row((3, 4, 5, 6, 0), 1.0), Row((9,), 2.0), Row((3, 3, 0), 3.0))
    ),
    Example((12, 13), (Row((14, 15, 16, 17, 18, 19, 20, 21), 4.0), Row((0,), 5.0))),
]


def network(family: str, kind: str = "scalar") -> GuideNetwork:
    net = make_network(
        toys.causal_lm(family), kind, layers=3, lora_rank=0, lora_alpha=1, seed=0
    ).eval()
    for weights in net.head.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return net


@pytest.mark.parametrize("family", toys.SHAPES)
@pytest.mark.parametrize("kind", ["scalar", "vocabulary"])
def test_shared_prompts_change_nothing(family: str, kind: str):
    """Longer than the sliding windows of Gemma 3 and Mistral; prompts and branches are ragged."""
    net = network(family, kind)
    assert net.shares
    said = []
    for shared in (True, False):
        tensors = collate(EXAMPLES, shared=shared)
        with torch.no_grad():
            said.append(token_scores(net(**to_network(tensors)), to_batch(tensors)))
    lengths = collate(EXAMPLES)["lengths"]
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(said[0][row, :n], said[1][row, :n], rtol=1e-4, atol=1e-5)


def test_a_shared_prompt_is_read_once():
    tensors = collate(EXAMPLES)
    apart = collate(EXAMPLES, shared=False)
    assert int((tensors["chain"] >= 0).sum()) == 7 + 5 + 1 + 3 + 2 + 8 + 1
    assert int((apart["chain"] >= 0).sum()) == 3 * 7 + 5 + 1 + 3 + 2 * 2 + 8 + 1
    for name in ("tokens", "lengths", "rewards"):
        assert torch.equal(tensors[name], apart[name])


def test_a_family_that_takes_no_mask_reads_rows_alone():
    net = network("bloom")
    assert not net.shares
    tensors = collate(EXAMPLES, shared=False)
    assert torch.isfinite(token_scores(net(**to_network(tensors)), to_batch(tensors))).all()


@pytest.mark.parametrize("kind", ["scalar", "vocabulary", "dueling"])
def test_rescaling_a_head_is_rescaling_its_scores(kind: str):
    torch.manual_seed(0)
    head = make_head(kind, 8, 11)
    for weights in head.parameters():
        torch.nn.init.normal_(weights)
    hidden = torch.randn(3, 8)
    before = head(hidden)
    rescale(head, 2.5, -1.0)
    torch.testing.assert_close(head(hidden), 2.5 * before - 1.0, rtol=1e-4, atol=1e-5)


def test_the_order_is_the_seeds_and_pads_little():
    sizes = torch.randint(5, 200, (503,), generator=torch.Generator().manual_seed(1)).tolist()
    order = LikeLengths(sizes, 8, seed=3)
    first = list(order)
    assert sorted(first) == list(range(503))
    assert first == list(order)
    order.set_epoch(1)
    assert first != list(order)

    def padding(indices: list[int]) -> int:
        parts = [indices[i : i + 8] for i in range(0, len(indices), 8)]
        return sum(max(sizes[i] for i in p) * len(p) - sum(sizes[i] for i in p) for p in parts)

    assert padding(first) < 0.3 * padding(list(range(503)))
