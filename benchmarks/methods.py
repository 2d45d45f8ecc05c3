"""All gradient-based methods on one task family at equal environment steps, with their cost: one table, one picture.

    python benchmarks/methods.py --seeds 1 2 3

Each method has its config, configs/METHOD_navigation.yaml. Runs live in runs/benchmarks/methods and continue where they
stopped. The held-out tasks are not those that the configs were chosen on. Results go to
benchmarks/results/methods_navigation.*; methods measured before are kept unless they are measured again.
"""

import argparse

from metarl_jax.studies.methods import METHODS, page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--tasks", type=int, default=100, help="held-out tasks")
    print(page("methods_navigation", study(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
