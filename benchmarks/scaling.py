"""What all cores gain over one, and many runs in one program over one run after the other: one table.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --cases "16 runs" --rounds 1

Nothing else should run on the machine meanwhile. Results go to benchmarks/results/scaling.{json,md}; cases measured
before are kept unless they are measured again.
"""

import argparse
from functools import partial

from metarl_jax.studies.scaling import CASES, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--rounds", type=int, default=3, help="of which the median is taken")
    study(**vars(parser.parse_args()), report=partial(print, flush=True))


if __name__ == "__main__":
    main()
