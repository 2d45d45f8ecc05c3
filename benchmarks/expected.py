"""Boil the results beside this file down to what ``metarl train`` says of a good result of a shipped config.

    python benchmarks/expected.py

To be given again whenever results change; a test holds the two together.
"""

from metarl_jax.report.expected import FILE, write_expected
from metarl_jax.studies.expected import expected


def main() -> None:
    results = expected()
    write_expected(results)
    print(f"{FILE}: {', '.join(results)}")


if __name__ == "__main__":
    main()
