"""The guides that come with the package, for the embedded model. `recipes/guides` made them."""

from __future__ import annotations

from pathlib import Path

from trimtab.guides.card import CARD

ROOM = Path(__file__).with_name("shipped")


def shipped_guides() -> dict[str, Path]:
    """The folders of the guides that come with the package, by name.

    >>> sorted(shipped_guides())
    ['concise', 'sentiment']
    """
    return {card.parent.name: card.parent for card in sorted(ROOM.glob(f"*/{CARD}"))}


def guide_folder(name: str | Path) -> Path | None:
    """Where a guide is: the folder of that name, or a shipped guide's; None where it is neither."""
    at = Path(name)
    if (at / CARD).is_file():
        return at
    return shipped_guides().get(str(name))
