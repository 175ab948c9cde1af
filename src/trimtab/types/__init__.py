"""The things that flow from a prompt to a token, and back to a better guide; on five pages."""

from trimtab.types.candidates import (
    Candidates,
    Outside,
    Proposal,
    Samples,
    Tail,
    TopK,
    Vocabulary,
    is_eos,
)
from trimtab.types.completions import Alternative, Completion, FinishReason, Step
from trimtab.types.costs import Cost, Tally, TotalCost
from trimtab.types.groups import Group, Response
from trimtab.types.prompts import (
    Message,
    Prompt,
    PromptLike,
    Sample,
    Split,
    Template,
    Vocab,
    asked,
    pad_ids,
)

__all__ = [
    "Alternative",
    "Candidates",
    "Completion",
    "Cost",
    "FinishReason",
    "Group",
    "Message",
    "Outside",
    "Prompt",
    "PromptLike",
    "Proposal",
    "Response",
    "Sample",
    "Samples",
    "Split",
    "Step",
    "Tail",
    "Tally",
    "Template",
    "TopK",
    "TotalCost",
    "Vocab",
    "Vocabulary",
    "asked",
    "is_eos",
    "pad_ids",
]
