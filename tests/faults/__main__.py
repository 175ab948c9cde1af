"""Does a test fail when the code is wrong? Each fault is put into a copy of the package, alone.

    python -m tests.faults                 # all; some minutes
    python -m tests.faults tail window     # those whose names hold one of these words
    python -m tests.faults --markdown docs/faults.md

The tests that a fault names must fail. One that survives is shown, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.faults import FAULTS, ROOT, Fault

QUIET = ["-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=line"]


def caught(fault: Fault) -> str | None:
    """The first test that fails under the fault; None if all pass.

    Raises:
        RuntimeError: the tests could not be run at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        file = source / "trimtab" / fault.file
        file.write_text(fault.put_into(file.read_text()))
        command = [sys.executable, "-m", "pytest", *QUIET, *fault.tests]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return None
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        raise RuntimeError(f"{fault.name}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failed[1]


def table(found: dict[str, str | None]) -> str:
    """The list in Markdown."""
    lines = [
        "| fault | where | caught by |",
        "|---|---|---|",
        *(
            f"| {fault.name} | `{fault.file}` | `{found[fault.name] or 'nothing'}` |"
            for fault in FAULTS
            if fault.name in found
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Put each fault in; say which were caught."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs="*", help="only faults whose names hold one of these")
    parser.add_argument("--jobs", type=int, default=2, help="faults at a time")
    parser.add_argument("--markdown", type=Path, help="write the list to this file")
    options = parser.parse_args()
    chosen = [
        f for f in FAULTS if not options.words or any(word in f.name for word in options.words)
    ]
    found: dict[str, str | None] = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for fault, test in zip(chosen, pool.map(caught, chosen), strict=True):
            found[fault.name] = test
            print(f"{fault.name}: {test or 'SURVIVED'}", flush=True)
    if options.markdown:
        options.markdown.write_text(table(found))
    survivors = [name for name, test in found.items() if test is None]
    print(f"{len(found) - len(survivors)} of {len(found)} faults caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
