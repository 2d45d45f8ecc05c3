"""Methods with trials beside classical algorithms and the optimum: total reward of a trial on fresh tasks, as a table.

    python benchmarks/trials.py configs/rl2_bandit.yaml --seeds 1

The run lives in runs/benchmarks/NAME_seedS and continues where it stopped; the result goes to
benchmarks/results/NAME.{json,md}. ``--goal`` counts the seeds that reach a total. ``--overrides KEY=VALUE ...`` change
config keys, and are recorded; they need a ``--name``.
"""

import argparse
from pathlib import Path

from metarl_jax.studies.results import RESULTS
from metarl_jax.studies.trials import page, study


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--name", help="of the results; the config's by default")
    parser.add_argument("--tasks", type=int, default=2000, help="fresh test trials")
    parser.add_argument("--goal", type=float, help="a total: how many seeds reach it")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = vars(parser.parse_args())
    name = options.pop("name")
    if options["overrides"] and not name:
        parser.error("--overrides: give the results a --name of their own")
    file = RESULTS / f"{name or options['config'].stem}.json"
    print(page(file.stem, study(file, **options)))


if __name__ == "__main__":
    main()
