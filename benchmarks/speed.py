"""Environment steps per second of task families and physics engines on this machine: one table.

    python benchmarks/speed.py
    python benchmarks/speed.py --cases ant_direction/spring ant_direction/mujoco --lanes 400

Rollouts of a small policy (two layers of 64; convolutions for games), compilation not counted. Families of one body
differ in the reward alone, so one of them stands for its body on every engine; new physics are timed on MuJoCo's own.
Five repetitions, fewer if they take longer than ten seconds. Results go to benchmarks/results/speed.{json,md}; cases
measured before are kept unless they are measured again.
"""

import argparse
from functools import partial

from metarl_jax.studies.speed import CASES, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="FAMILY[/ENGINE]")
    parser.add_argument("--lanes", type=int, help="episodes side by side; 400 by default, of slow engines on CPUs 40")
    study(**vars(parser.parse_args()), report=partial(print, flush=True))


if __name__ == "__main__":
    main()
