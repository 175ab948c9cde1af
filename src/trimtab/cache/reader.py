"""The contract of a cached reader on one page, and the door to its two kinds.

    state  = reader.prefill(ids)                  rows of any lengths
    out    = reader.branch(state, candidates)     [B, K, D]; prefixes stay as they were
    state  = reader.extend(state, tokens, n)      the chosen candidate is kept, not read again
    state  = reader.select(state, rows)           drop, reorder, fork
    state  = reader.join([state, state])          side by side

`state.last` is what `finish` makes of the output at each row's last token. States are consumed by
`extend`, `select` and `join`; `fork` leaves its argument alone. `reader.cost` counts every token
that was read.

Legend: B rows, K candidates, L tokens of a candidate, D output size, R some rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

from trimtab.cache.configs import Context
from trimtab.cache.expanded import ExpandedReader, as_it_is
from trimtab.cache.selfcheck import check, found_wrong
from trimtab.cache.tree import TreeReader
from trimtab.errors import check_word
from trimtab.types import Candidates, Cost

S = TypeVar("S")

Attention: TypeAlias = Literal["tree", "expanded"]
"""How k candidates share a prefix."""


@runtime_checkable
class CachedReader(Protocol[S]):
    """A network that reads growing prefixes; see the module's page."""

    attention: str
    cost: Cost
    context: Context

    def prefill(self, ids: Sequence[Sequence[int]]) -> S:
        """Read whole prompts."""
        ...

    def extend(self, state: S, tokens: Int[Tensor, "B L"], lengths: Int[Tensor, "B"]) -> S:
        """Append `lengths[b]` tokens to row b."""
        ...

    def branch(self, state: S, candidates: Candidates) -> Float[Tensor, "B K D"]:
        """The output at each candidate's last token."""
        ...

    def select(self, state: S, rows: Int[Tensor, "R"]) -> S:
        """Drop, reorder or fork rows."""
        ...

    def fork(self, state: S, n: int) -> S:
        """n copies of every row; `state` stays as it was."""
        ...

    def join(self, states: Sequence[S]) -> S:
        """Rows side by side."""
        ...


KINDS: dict[str, Callable[..., CachedReader[Any]]] = {
    "tree": TreeReader,
    "expanded": ExpandedReader,
}


def open_reader(
    net: PreTrainedModel,
    output: Callable[[Any], Tensor],
    *,
    attention: Attention = "tree",
    finish: Callable[[Tensor], Tensor] = as_it_is,
    **arguments: Any,
) -> CachedReader[Any]:
    """A reader over `net` by the name of how k candidates share a prefix.

    Args:
        net: a transformers decoder.
        output: what to take from its output, `[B, Q, D]`.
        attention: "tree", or "expanded" for architectures that cannot take an explicit mask.
        finish: what to make of it at each row's last token, `[B, D]`: `state.last`.
        arguments: more arguments of each forward.

    Raises:
        IncompatibleError: the network cannot be read in this way.
    """
    check_word("attention", attention, Attention)
    check(net, attention, KINDS[attention])
    return KINDS[attention](net, output, finish=finish, **arguments)


def reads_trees(net: PreTrainedModel) -> bool:
    """Whether a network reads branches of one prefix as it reads them alone."""
    return not found_wrong(net, "tree", TreeReader)
