"""``python -m metarl_jax``: the command ``metarl``."""

from metarl_jax.cli import main

if __name__ == "__main__":
    main()
