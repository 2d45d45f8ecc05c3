"""Train a config on several seeds, evaluate on held-out tasks, and write the table, curves and numbers.

    python benchmarks/learning.py configs/maml_navigation_finn.yaml --seeds 1 2 3 --checkpoint best

Runs live in runs/benchmarks/NAME_seedS and continue where they stopped. Results go to
benchmarks/results/NAME.{json,md,png}.
``--overrides KEY=VALUE ...`` change config keys, and are recorded. ``--oracle CONFIG`` also trains a policy that sees
its task, on the first seed (of the overrides, those of ``tasks``), and gives the share of its improvement on a random
policy that adaptation reaches. ``--keep`` leaves the other seeds and the oracle in the results as they are, so that
seeds can come from several machines; the results know the config by its path, so it must not have changed since.
``--redraw`` runs nothing: it makes the table and the curves again from the numbers.
"""

import argparse
from pathlib import Path

from metarl_jax.checks import Refusal
from metarl_jax.studies.learning import page, redraw, study
from metarl_jax.studies.results import RESULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--checkpoint", default="latest", help="which checkpoint is evaluated: latest or best")
    parser.add_argument("--name", help="of the results; the config's by default")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="gradient steps at evaluation")
    parser.add_argument("--tasks", type=int, default=40, help="held-out tasks")
    parser.add_argument("--episodes", type=int, help="episodes per task and gradient step at evaluation")
    parser.add_argument("--oracle", type=Path, metavar="CONFIG", help="of a policy that sees its task")
    parser.add_argument("--keep", action="store_true", help="other seeds, and the oracle, that the results hold")
    parser.add_argument("--redraw", action="store_true", help="table and curves, from the numbers alone")
    parser.add_argument("--overrides", nargs="*", default=[], metavar="KEY=VALUE")
    options = vars(parser.parse_args())
    name, from_numbers = options.pop("name"), options.pop("redraw")
    file = RESULTS / f"{name or options['config'].stem}.json"
    try:
        result = redraw(file) if from_numbers else study(file, **options)
    except Refusal as refusal:
        parser.error(str(refusal))
    print(page(file.stem, result))


if __name__ == "__main__":
    main()
