"""Seconds from the start of the command to the end of ``metarl --help`` and to training's first update: one table.

    python benchmarks/startup.py
    python benchmarks/startup.py --cases navigation --repetitions 9

Training starts with an empty and with a filled compilation cache, each time in a process of its own. Results go to
benchmarks/results/startup.{json,md}; cases measured before are kept unless they are measured again.
"""

import argparse
from functools import partial

from metarl_jax.studies.startup import CASES, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), metavar="CASE")
    parser.add_argument("--repetitions", type=int, default=5, help="of which the median is taken")
    study(**vars(parser.parse_args()), report=partial(print, flush=True))


if __name__ == "__main__":
    main()
