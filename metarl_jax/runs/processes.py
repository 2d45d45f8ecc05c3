"""The processes of a job: joining them, and what they decide together."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from metarl_jax.config import ConfigError


def join(distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Join the processes of a job, if there are any to join.

    Args:
      distributed: find them through the cluster (Slurm, MPI, Kubernetes, TPU).
      coordinator: or join by hand: ``HOST:PORT`` of the first process.
      num_processes: with ``coordinator``, how many there are.
      process_id: with ``coordinator``, which one this is.

    Raises:
      ConfigError: if the options do not go together, or joining failed.
    """
    if coordinator is None and (num_processes is not None or process_id is not None):
        raise ConfigError("--num-processes and --process-id need --coordinator HOST:PORT")
    if coordinator is None and not distributed:
        return
    if coordinator is not None and (num_processes is None or process_id is None):
        raise ConfigError("--coordinator needs --num-processes and --process-id")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, RuntimeError) as error:
        if coordinator is not None:
            raise ConfigError(f"--coordinator {coordinator}: joining failed ({error})") from error
        raise ConfigError(f"--distributed found no cluster ({error}): give --coordinator HOST:PORT") from error


def refuse_alone(run_dir: Path | None, devices: int | None, evaluate_after: bool) -> None:
    """Refuse options that mean nothing, or not the same on every process, when there are several.

    Args:
      run_dir: as given by the user, like the rest.
      devices: as given.
      evaluate_after: as given.

    Raises:
      ConfigError: naming the option and the remedy.
    """
    if run_dir is None:
        raise ConfigError("several processes need one --run-dir that all of them see")
    if devices is not None:
        raise ConfigError("--devices is for one process: several processes use all devices they have")
    if evaluate_after:
        raise ConfigError("--evaluate is for one process: run 'metarl evaluate' when training has finished")


def together(action: Callable[[], None]) -> None:
    """Run ``action`` on every process; if it fails on one, all of them leave with an error.

    Args:
      action: what may be refused, or fail.

    Raises:
      ConfigError: if it failed on another process; what it raised if it failed here.
    """
    failure: Exception | None = None
    try:
        action()
    except Exception as error:
        failure = error
    if any_process(failure is not None):
        raise failure or ConfigError("another process refused to start: see its message")


def any_process(condition: bool) -> bool:
    """Whether the condition holds on this or another process; all of them must ask.

    Example:
      >>> any_process(False)
      False
    """
    return _largest(int(condition)) > 0


def signal_anywhere(number: int | None) -> int | None:
    """The signal that this or another process was sent: they must leave the loop together.

    Example:
      >>> signal_anywhere(None) is None
      True
    """
    return _largest(number or 0) or None


def _largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())
