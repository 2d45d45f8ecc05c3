"""How fast adaptation is on this machine's accelerator: a suite of methods and families, within 25 minutes on one GPU.

    python benchmarks/accelerator.py
    python benchmarks/accelerator.py --cases "promp, navigation_corner" --minutes 4
    python benchmarks/accelerator.py --at-once 7 --minutes 8
    python benchmarks/accelerator.py --planned

Each case is benchmarked in a process of its own (`metarl benchmark --sweep`), beside its plan for an H100, if
benchmarks/results/plan.json has one. Results go to benchmarks/results/accelerator.{json,md}; cases measured before are
kept unless they are measured again. With --at-once cases compile side by side, each on its share of the cores, and are
timed one at a time. With --planned nothing is measured.
"""

import argparse

from metarl_jax.studies.accelerator import CASES, page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--minutes", type=float, default=25.0, help="for all cases")
    several = range(1, len(CASES) + 1)
    parser.add_argument(
        "--at-once", type=int, default=1, choices=several, metavar="N", help="cases that compile side by side"
    )
    parser.add_argument("--planned", dest="measures", action="store_false", help="only read the plans anew")
    print(page("accelerator", study(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
