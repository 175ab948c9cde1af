"""What the machine allows: measured rates, and the fewest operations and bytes of a forward."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedModel

from overhead.timing import seconds


@dataclass(frozen=True)
class Rates:
    """The machine's two ceilings, in operations and bytes per second."""

    flops: float
    bytes: float

    def best(self, other: Rates) -> Rates:
        """The higher of each: another program can only have slowed a measurement down."""
        return Rates(max(self.flops, other.flops), max(self.bytes, other.bytes))


@dataclass(frozen=True)
class Work:
    """The least a forward must do."""

    flops: float
    bytes: float

    def seconds(self, rates: Rates) -> float:
        """The larger of the two times: arithmetic and memory may overlap."""
        return max(self.flops / rates.flops, self.bytes / rates.bytes)


@torch.inference_mode()
def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """A large matrix product, and a large copy (bytes read plus bytes written)."""
    size, numel = (8192, 2**30) if device.type == "cuda" else (1024, 2**26)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = torch.empty_like(a)
    flops = 2 * size**3 / seconds(lambda: torch.mm(a, b, out=product), device, 9)
    source = torch.randn(numel, device=device, dtype=dtype)
    target = torch.empty_like(source)
    moved = 2 * source.numel() * source.element_size()
    return Rates(flops, moved / seconds(lambda: target.copy_(source), device, 9))


def matrices(net: nn.Module) -> list[nn.Parameter]:
    """The weights that multiply every token; an embedding only hands out rows."""
    modules = [m for m in net.modules() if not isinstance(m, nn.Embedding)]
    own = [p for m in modules for p in m.parameters(recurse=False)]
    return list({id(p): p for p in own if p.dim() == 2}.values())


@dataclass(frozen=True)
class Forward:
    """One forward: `rows` rows, `queries` new tokens of each behind `prefix` stored ones."""

    net: PreTrainedModel
    rows: int
    queries: int
    prefix: int

    @property
    def heads(self) -> tuple[int, int, int, int]:
        """Layers, heads, key-value heads, head size."""
        c = self.net.config.get_text_config()
        size = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
        kv = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
        return c.num_hidden_layers, c.num_attention_heads, kv, size

    @property
    def work(self) -> Work:
        """Weights, keys and values are read once; every query sees the prefix and itself."""
        layers, heads, kv, size = self.heads
        weights, tokens = matrices(self.net), self.rows * self.queries
        stored = self.rows * (self.prefix + self.queries)
        item = self.net.dtype.itemsize
        return Work(
            2 * tokens * sum(w.numel() for w in weights)
            + 4 * layers * tokens * (self.prefix + 1) * heads * size,
            item * (sum(w.numel() for w in weights) + 2 * layers * stored * kv * size),
        )

    @torch.inference_mode()
    def attention_seconds(self) -> float:
        """Attention alone: torch's own kernel on this shape, all layers, keys never copied.

        Query heads that share a key-value head are laid side by side as queries. Every layer has
        keys and values of its own, else a cache near the processor would hold them.
        """
        layers, heads, kv, size = self.heads
        like: Any = {"device": self.net.device, "dtype": self.net.dtype}
        queries = heads // kv * self.queries
        width = self.prefix + self.queries
        q = torch.randn(self.rows, kv, queries, size, **like)
        stored = [
            [torch.randn(self.rows, kv, width, size, **like) for _ in range(2)]
            for _ in range(layers)
        ]
        mask = torch.ones(self.rows, 1, queries, width, device=self.net.device, dtype=torch.bool)
        return seconds(
            lambda: [F.scaled_dot_product_attention(q, k, v, attn_mask=mask) for k, v in stored],
            self.net.device,
        )

    @torch.inference_mode()
    def matmul_seconds(self) -> float:
        """The matrix products alone, as torch's library does them at this number of tokens."""
        weights = matrices(self.net)
        like: Any = {"device": self.net.device, "dtype": self.net.dtype}
        tokens = self.rows * self.queries
        x = {w.shape[1]: torch.randn(tokens, w.shape[1], **like) for w in weights}
        return seconds(lambda: [F.linear(x[w.shape[1]], w) for w in weights], self.net.device)


def head_work(head: nn.Module, rows: int) -> Work:
    """A head's matrix product."""
    numel = sum(w.numel() for w in matrices(head))
    item = next(head.parameters()).element_size()
    return Work(2 * rows * numel, item * numel)
