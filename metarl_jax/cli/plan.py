"""``metarl plan``."""

import json
from typing import Annotated

import typer

from metarl_jax.cli.app import ConfigPath, Devices, Overrides, busy


def plan(
    config: ConfigPath,
    overrides: Overrides = None,
    target: Annotated[
        str,
        typer.Option(help="h100, h200, a100-40, a100-80, l40s, rtx4090, v5e:2x2, v5p:2x2x1, v6e:2x2, or cpu (here)."),
    ] = "cpu",
    devices: Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Compile a run for hardware that need not be here: whether it fits there, and what an update costs."""
    from metarl_jax.config import ConfigError, load_config
    from metarl_jax.plan.targets import HERE, find_target, stay_on_cpu
    from metarl_jax.runs.startup import set_up

    settings = load_config(config, overrides or [])
    stay_on_cpu()
    if target == HERE:
        set_up(devices)
        stay_on_cpu()
    else:
        find_target(target)
        if devices is not None:
            raise ConfigError(f"--devices {devices}: is for --target {HERE}; other targets say how many they are")
    from metarl_jax.plan.estimate import plan as make_plan
    from metarl_jax.report.tables import plan_table, print_table

    with busy(f"compiling for {target}"):
        result = make_plan(settings, target)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        print_table(plan_table(result, config.stem))
