"""A short run of every task family from its config: what adaptation gains before training and after it.

    python benchmarks/families.py
    python benchmarks/families.py --families ant_goal walker_velocity

Each run lives in runs/benchmarks/families and continues where it stopped. Results go to
benchmarks/results/families.{json,md}; families run before are kept unless they are run again.
"""

import argparse

from metarl_jax.studies.families import FAMILIES, page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES), metavar="FAMILY")
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    print(page("families", study(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
