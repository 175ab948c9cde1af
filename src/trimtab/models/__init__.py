"""Base models: what proposes candidates, with their log-probabilities under pi_ref."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.models.classifier import ChatTemplate
    from trimtab.models.proposals import TableLM
    from trimtab.models.transformers import TransformersLM

__all__ = ["ChatTemplate", "TableLM", "TransformersLM"]
__getattr__, __dir__ = door(__name__)
