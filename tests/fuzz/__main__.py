"""Many decodes of anything by anything, held to recomputation; the first that is not is shown.

python -m tests.fuzz --cases 5000 --seed 1
"""

from __future__ import annotations

import argparse
import logging
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import Counter

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.fuzz.cases import Case, cases, run

torch.set_num_threads(1)


def main() -> None:
    """Run them, and say how much was held."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="decodes")
    parser.add_argument("--seed", type=int, default=1, help="of hypothesis")
    parser.add_argument("--shrink", action="store_true", help="look for a smaller one that fails")
    options = parser.parse_args()
    logging.getLogger("trimtab").setLevel(logging.ERROR)  # shorter contexts, said at each opening
    seen: Counter[str] = Counter()

    @seed(options.seed)
    @settings(
        max_examples=options.cases,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, *([Phase.shrink] if options.shrink else [])],
    )
    @given(case=cases())
    def holds(case: Case) -> None:
        seen["decodes"] += 1
        seen["rows"] += len(case.prompts) * case.n
        seen["tokens"] += run(case)
        if seen["decodes"] % 100 == 0:
            print(dict(seen), flush=True)

    holds()
    print(f"seed {options.seed}: all held;", ", ".join(f"{n} {what}" for what, n in seen.items()))


if __name__ == "__main__":
    main()
