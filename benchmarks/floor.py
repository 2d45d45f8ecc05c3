"""CPU seconds of an update beside those that its matrix products alone take in numpy: one table.

    python benchmarks/floor.py

Results go to benchmarks/results/floor.{json,md}; cases measured before are kept unless they are measured again.
"""

from metarl_jax.studies.floor import CASES, measure, page
from metarl_jax.studies.results import from_command_line

if __name__ == "__main__":
    from_command_line(__doc__, "floor", CASES, measure, page, "rounds", 3)
