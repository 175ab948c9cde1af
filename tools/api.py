"""Compares the doors with the last release: what would a user's code notice?

    python -m tools.api    what `make api` prints; fails where a public name broke

A door is a package's `__init__` (or a module) that says in `__all__` what is public. What stands
behind the doors may move and change. The last release is the nearest tag `v*` before the working
tree; where there is none, nothing is compared. A break that is meant is listed in CHANGELOG.md
under "Changed" or "Removed", and the version says so (RELEASING.md).
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
COLOUR = re.compile(r"\x1b\[\d+m")


def last_release(repository: Path) -> str | None:
    """The nearest tag `v*` that the working tree descends from."""
    found = subprocess.run(
        ["git", "describe", "--tags", "--abbrev=0", "--match", "v*"],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or None


def breaks(repository: Path, package: str, tag: str) -> list[str]:
    """What the doors of the working tree no longer give, or give otherwise, than at a tag.

    Returns:
        A line for each break, with the place of the old definition.
    """
    old = griffe.load_git(
        package, ref=tag, repo=repository, search_paths=["src"], resolve_aliases=True
    )
    new = griffe.load(package, search_paths=[repository / "src"], resolve_aliases=True)
    before, now = doors(old), doors(new)
    lines = [f"{name}: the door is gone" for name in before.keys() - now.keys()]
    for name in before.keys() & now.keys():
        found = griffe.find_breaking_changes(before[name], now[name])
        lines += [COLOUR.sub("", b.explain(griffe.ExplanationStyle.ONE_LINE)) for b in found]
    return sorted(set(lines))


def doors(package: griffe.Object | griffe.Alias) -> dict[str, griffe.Module]:
    """The modules with an `__all__`, by path, stripped of all that it does not name."""
    assert isinstance(package, griffe.Module)
    found = {module.path: module for module in _modules(package) if module.exports is not None}
    for module in found.values():
        public = {str(name) for name in module.exports or ()}
        for name in module.members.keys() - public:
            del module.members[name]
    return found


def _modules(package: griffe.Module) -> Iterator[griffe.Module]:
    yield package
    for module in package.modules.values():
        if not module.name.startswith("_"):
            yield from _modules(module)


def main() -> None:
    """Prints the breaks; exits with 1 where there is one."""
    tag = last_release(ROOT)
    if tag is None:
        print("no release yet: nothing to compare the doors with")
        return
    lines = breaks(ROOT, "trimtab", tag)
    print("\n".join(lines) or f"every public name of {tag} still holds")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
