"""Methods that adapt within a trial beside each other: what each episode earns on held-out tasks, as a table.

    python benchmarks/episodes.py rl2_dark_room ad_dark_room dpt_dark_room --name dark_room

Runs live in runs/benchmarks/NAME_CONFIG and continue where they stopped; the result goes to
benchmarks/results/NAME.{json,md}.
"""

import argparse

from metarl_jax.studies.episodes import page, study
from metarl_jax.studies.results import RESULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("configs", nargs="+", help="names of configs, of one family of tasks")
    parser.add_argument("--name", required=True, help="of the results")
    parser.add_argument("--episodes", type=int, default=4, help="of a trial")
    parser.add_argument("--tasks", type=int, default=1000, help="held-out, a trial each")
    options = vars(parser.parse_args())
    file = RESULTS / f"{options.pop('name')}.json"
    print(page(file.stem, study(file, **options)))


if __name__ == "__main__":
    main()
