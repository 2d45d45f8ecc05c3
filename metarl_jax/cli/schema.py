"""``metarl schema``."""

import json


def schema() -> None:
    """Print the JSON schema of config files, with which an editor completes, explains and checks their keys."""
    from metarl_jax.config import config_schema

    print(json.dumps(config_schema(), indent=1))
