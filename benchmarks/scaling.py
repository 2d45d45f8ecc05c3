"""What all cores gain over one, and many runs in one program over one run after the other: one table.

    python benchmarks/scaling.py
    python benchmarks/scaling.py --cases "16 runs" --rounds 1

Nothing else should run on the machine meanwhile. Results go to benchmarks/results/scaling.{json,md}; cases measured
before are kept unless they are measured again.
"""

from metarl_jax.studies.results import from_command_line
from metarl_jax.studies.scaling import CASES, measure, page

if __name__ == "__main__":
    from_command_line(__doc__, "scaling", CASES, measure, page, "rounds", 3)
