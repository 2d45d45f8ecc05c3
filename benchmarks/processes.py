"""Two and four processes on this host: the same run as one process trains, and one of them killed: one table.

    python benchmarks/processes.py
    python benchmarks/processes.py --cases "2 processes"

Results go to benchmarks/results/processes.{json,md}; cases measured before are kept unless they are measured again.
"""

from metarl_jax.studies.processes import CASES, measure, page
from metarl_jax.studies.results import from_command_line

if __name__ == "__main__":
    from_command_line(__doc__, "processes", CASES, measure, page, "seed", 1, "of the run")
