"""The guides that come with the package, for the embedded model. `recipes/guides` made them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trimtab.errors import UnknownNameError

MANIFEST = "guide.json"
"""The file that makes a folder a guide's."""

SHIPPED = Path(__file__).with_name("shipped")


def shipped_guides() -> dict[str, Path]:
    """The folders of the guides that come with the package, by name.

    >>> sorted(shipped_guides())
    ['concise', 'sentiment']
    """
    return {path.parent.name: path.parent for path in sorted(SHIPPED.glob(f"*/{MANIFEST}"))}


def check_name(name: str, also: Iterable[str] = ()) -> None:
    """Raise `UnknownNameError` for a name that can be no guide's, before the Hub is asked.

    A guide is a folder, one that comes with the package, or a reward model: a folder or ORG/NAME on
    the Hub, either with #LABEL.

    Args:
        name: what the user named.
        also: names that are known here beside those.
    """
    if guide_folder(name) is not None or "/" in name or Path(name.partition("#")[0]).exists():
        return
    shipped = shipped_guides()
    raise UnknownNameError(
        "a guide",
        name,
        {*shipped, *also},
        do=f"with the package come {' and '.join(shipped)}; or name a folder, or a reward model of "
        "the Hub as ORG/NAME",
    )


def guide_folder(name: str | Path) -> Path | None:
    """Where a guide is: the folder of that name, or a shipped guide's; None where it is neither."""
    folder = Path(name)
    if (folder / MANIFEST).is_file():
        return folder
    return shipped_guides().get(str(name))
