"""Methods beside each other at equal environment steps: what ``metarl compare`` says of the comparisons in README.

    python benchmarks/comparisons.py navigation
    python benchmarks/comparisons.py half_cheetah_direction --devices 1

The methods are trained first: half an hour for navigation on two cores, an hour or two for a half-cheetah. Runs live in
runs/benchmarks and continue where they stopped; nothing is trained or evaluated twice. The held-out tasks are not those
that the configs were chosen on. Results go to benchmarks/results/comparison_NAME.{json,md,png,html}.
"""

import argparse

from metarl_jax.studies.comparisons import COMPARISONS, page, study
from metarl_jax.studies.results import RESULTS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(COMPARISONS))
    parser.add_argument("--devices", type=int)
    options = parser.parse_args()
    file = RESULTS / f"comparison_{options.name}.json"
    print(page(file.stem, study(options.name, file, options.devices)))


if __name__ == "__main__":
    main()
