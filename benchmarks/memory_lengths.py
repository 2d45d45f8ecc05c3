"""How long memories remember: success in T-mazes of growing length, for each memory.

    python benchmarks/memory_lengths.py --cases "s5 500" "gru 100"

The runs live in runs/benchmarks/memory_lengths and continue where they stopped; the result goes to
benchmarks/results/memory_lengths.{json,md,png}.
"""

import argparse
from pathlib import Path

from metarl_jax.studies.memory_lengths import CASES, page, study
from metarl_jax.studies.results import RESULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="CASE")
    parser.add_argument("--tasks", type=int, default=1000, help="fresh test trials")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    file: Path = RESULTS / "memory_lengths.json"
    print(page(file.stem, study(file=file, **vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
