"""What percepts stored in bfloat16 do to the meta-gradient, and the memory that they save: one table.

    python benchmarks/percepts.py
    python benchmarks/percepts.py --cases "ProMP, corner"

Results go to benchmarks/results/percepts.{json,md}; cases measured before are kept unless they are measured again.
"""

from metarl_jax.studies.percepts import CASES, measure, page
from metarl_jax.studies.results import from_command_line

if __name__ == "__main__":
    from_command_line(
        __doc__, "percepts", CASES, measure, page, "updates", 20, "of training before the second comparison"
    )
