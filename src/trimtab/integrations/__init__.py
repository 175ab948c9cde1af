"""The same `Method` objects inside other engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.integrations.transformers import GuidedLogitsProcessor

__all__ = ["GuidedLogitsProcessor"]
__getattr__, __dir__ = door(__name__)
