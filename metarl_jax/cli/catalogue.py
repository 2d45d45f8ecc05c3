"""``metarl list``."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer


def list_(
    folder: Annotated[Path, typer.Option(help="Where config files lie.")] = Path("configs"),
) -> None:
    """List algorithms, task families, policies and config files."""
    from metarl_jax.algorithms import ALGORITHMS
    from metarl_jax.networks import POLICIES
    from metarl_jax.tasks import FAMILIES

    catalogues: dict[str, dict[str, Callable[..., Any]]] = {
        "algorithms": dict(ALGORITHMS),
        "task families": dict(FAMILIES),
        "policies": dict(POLICIES),
    }
    for title, factories in catalogues.items():
        print(f"{title}:")
        for name, factory in factories.items():
            summary = (factory.__doc__ or "").strip().splitlines()[0]
            print(f"  {name:24}{summary}")
    print(f"configs in {folder}/:")
    for path in sorted(folder.glob("*.yaml")):
        print(f"  {path}")
    if not any(folder.glob("*.yaml")):
        print("  none; name another folder with --folder")
