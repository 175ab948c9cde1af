"""A guide under the magnifier: is it what it says, and does it know what it should?

`inspect_guide` reads a guide's card, holds it against the base, and measures its scores, as
decoding reads them, against rewards, labels and pairs. `to_markdown`, `to_json` and `picture` say
what was found.
"""

from __future__ import annotations

from trimtab.decoding.forced import prefix_scores
from trimtab.training.inspection.findings import Finding
from trimtab.training.inspection.inspect import Inspection, inspect_guide
from trimtab.training.inspection.pictures import picture
from trimtab.training.inspection.words import to_json, to_markdown

__all__ = [
    "Finding",
    "Inspection",
    "inspect_guide",
    "picture",
    "prefix_scores",
    "to_json",
    "to_markdown",
]
