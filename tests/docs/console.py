"""Runs the commands of README and docs, page by page from top to bottom, in an empty folder.

    python -m tests.docs.console

Each line runs as it is printed, and then says less: fewer prompts, tokens and layers than a page
promises minutes for. What a page takes from another one is made first, by that one's commands.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

from tests import shell
from tests.docs.blocks import PAGES, ROOT, blocks_of, commands

SMALLER = {
    "generate": ["--max-new-tokens", "4"],
    "steer": [
        *("-n", "6", "--test-n", "1", "--base-samples", "2", "--max-new-tokens", "12"),
        *("--layers", "2", "--lr", "1e-3", "--beta", "1", "--workers", "1"),
    ],
    "collect": ["--limit", "12", "-n", "4", "--max-new-tokens", "12", "--workers", "1"],
    "collect --validation": ["--limit", "6", "--max-new-tokens", "8", "--completions", "2"],
    "collect --relabel": [],
    "train": ["--epochs", "1", "--layers", "2", "--lr", "1e-3", "--overwrite"],
    "train --learn": ["--set", "margin=0.01"],
    "inspect": ["--limit", "12"],
    "evaluate": ["--limit", "2", "-n", "1", "--base-samples", "4", "--max-new-tokens", "6"],
    "sweep": ["--limit", "2", "-n", "2", "--max-new-tokens", "4"],
}
"""What is added to a command, by its name, or by its name and one of its options as well."""

ONE_PROCESS = ("evaluate", "sweep")

ELSEWHERE = ("make", "torchrun")
"""Programs whose lines are tried by `make` itself and by the tests of several processes."""

TAKEN = {
    "README.md": ["prompts.csv", "my_reward.py"],
    "docs/inspecting.md": ["rollouts", "my-guide", "values", "my-reward"],
    "docs/training.md": ["pairs.jsonl"],
}
"""What a page takes from elsewhere."""

TOPICS = """tea rain cats snow maps bread songs trains ships birds wind books soup stars chess paint
clay ink salt wool sand bees moss fog"""

MADE: dict[str, list[str]] = {
    "rollouts": ["collect", "sentiment", "-o", "rollouts"],
    "my-guide": ["train", "td-lambda", "rollouts", "-o", "my-guide"],
    "values": ["collect", "sentiment", "--validation", "-o", "values"],
    "my-reward": ["train", "partial-bradley-terry", "pairs.jsonl", "-o", "my-reward"],
}

LINES = {
    str(page.relative_to(ROOT)): [
        words
        for block in blocks_of(page, "console")
        for words in commands(block)
        if words[0] not in ELSEWHERE
    ]
    for page in PAGES
}


def smaller(words: list[str]) -> list[str]:
    """A command with what makes it say less."""
    name, added = words[0], list[str]()
    for key, more in SMALLER.items():
        command, _, option = key.partition(" ")
        if command == name and (not option or option in words):
            added = more if option and name == "collect" else [*added, *more]
    return [*words, *added, *(["--workers", "1"] if name in ONE_PROCESS else [])]


def write_files() -> None:
    """The files of a user: prompts, a reward, and pairs of answers."""
    splits = ("train", "train", "train", "train", "validation", "test")
    asked = [
        f"Explain {what}.,{split}" for what, split in zip(TOPICS.split()[:6], splits, strict=True)
    ]
    Path("prompts.csv").write_text("\n".join(["prompt,split", *asked, ""]))
    score = "def score(prompts, responses):\n    return [-len(r) / 10 for r in responses]\n"
    Path("my_reward.py").write_text(score)
    rows = [
        {
            "prompt": f"An opinion on {what}.",
            "chosen": f"I love {what}.",
            "rejected": f"Bad {what}.",
        }
        for what in TOPICS.split()
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def run(words: list[str]) -> None:
    """One line; it must end well, or be strict about a guide that learnt too little."""
    given = words if "--help" in words else smaller(words)
    done = shell.trimtab(*given)
    fine = (0, 1) if "--strict" in words else (0,)
    assert done.exit_code in fine, f"{' '.join(given)}\n{done.output}\n{done.exception!r}"
    assert done.output


def main() -> None:
    """Every page, in a folder of its own."""
    for page, lines in LINES.items():
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            write_files()
            for thing in TAKEN.get(page, []):
                if thing in MADE:
                    run(MADE[thing])
            for words in lines:
                assert words[0] == "trimtab", words
                run(words[1:])
        print(f"{page}: {len(lines)} commands", flush=True)


if __name__ == "__main__":
    main()
