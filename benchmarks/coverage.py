"""How often intervals that say 95 % hold what they are about, on numbers whose truth is known: two tables.

    python benchmarks/coverage.py
    python benchmarks/coverage.py --samples 200

Nothing is trained. Results go to benchmarks/results/coverage.{json,md}.
"""

import argparse

from metarl_jax.studies.coverage import page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2_000, help="of each kind")
    print(page("coverage", study(**vars(parser.parse_args()))))


if __name__ == "__main__":
    main()
