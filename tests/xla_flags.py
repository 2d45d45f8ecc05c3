"""Which flags the installed XLA takes: one that it does not know ends the process. JAX must not be imported here."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from packaging.requirements import Requirement


def pinned(package: str, constraints: str) -> str | None:
    """The version of a package that lines of constraints ask for under this Python; None if they do not say."""
    lines = (line.partition("#")[0].strip() for line in constraints.splitlines())
    for requirement in map(Requirement, filter(None, lines)):
        if requirement.name == package and (requirement.marker is None or requirement.marker.evaluate()):
            return str(requirement.specifier).removeprefix("==")
    return None


def starts(flags: Sequence[str]) -> bool:
    """Whether JAX starts with these flags, in a process of its own."""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": " ".join(flags)}
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    return subprocess.run(command, env=environment, capture_output=True, timeout=120).returncode == 0


def accepted(flags: Sequence[str], starts: Callable[[Sequence[str]], bool] = starts) -> list[str]:
    """The flags with which JAX starts; one process if these are all of them."""
    return list(flags) if starts(flags) else [flag for flag in flags if starts([flag])]
