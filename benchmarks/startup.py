"""Seconds from the start of the command to the end of ``metarl --help`` and to training's first update: one table.

    python benchmarks/startup.py
    python benchmarks/startup.py --cases navigation --repetitions 9

Training starts with an empty and with a filled compilation cache, each time in a process of its own. Results go to
benchmarks/results/startup.{json,md}; cases measured before are kept unless they are measured again.
"""

from metarl_jax.studies.results import from_command_line
from metarl_jax.studies.startup import CASES, measure, page

if __name__ == "__main__":
    from_command_line(__doc__, "startup", CASES, measure, page, "repetitions", 5)
