"""A guide under the magnifier: is it what it says, and does it know what it should?

    inspection = inspect_guide("my-guide", lm, data=["rollouts"], validation=["values"])
    print(inspection.to_markdown())
    inspection.write("report")                 the same as Markdown, JSON, a page and a picture

`inspect_guide` reads a guide's manifest, holds it against the base, and measures its scores, as
decoding reads them, against rewards, labels and pairs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trimtab.lazy import door

if TYPE_CHECKING:
    from trimtab.inspection.audit import Finding
    from trimtab.inspection.inspect import inspect_guide
    from trimtab.inspection.report import Inspection

__all__ = ["Finding", "Inspection", "inspect_guide"]
__getattr__, __dir__ = door(__name__)
