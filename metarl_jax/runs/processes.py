"""The processes of a job: joining them, what they decide together, and parting."""

import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Timer
from typing import NoReturn

import jax
import numpy as np
from jax.errors import JaxRuntimeError
from jax.experimental import multihost_utils

from metarl_jax.config import ConfigError
from metarl_jax.runs.cluster import Job
from metarl_jax.runs.relay import Relay
from metarl_jax.runs.signals import end_process

RESTART = 75
"""The exit code of a process that is to be started again: EX_TEMPFAIL of sysexits.h."""
_AGAIN = "start all of them again with --resume-if-exists: they go on from the last checkpoint"
_COMING_TAKES = 300.0
"""Seconds in which all processes of a job must have been started."""
_NEWS_TAKES = 5.0
"""Seconds in which the relay has heard of a death if a collective operation failed because of it."""
_OF_A_COLLECTIVE = (JaxRuntimeError, ValueError)
"""What JAX raises then: the second, where the operation is done before the call is back."""

_relays: list[Relay] = []
"""The relay of this process while it is in a job, as JAX itself keeps its membership."""


@contextmanager
def joined(job: Job | None) -> Iterator[None]:
    """Be one of the processes of a job, until ``leave``.

    If another one dies meanwhile, this process ends with one sentence and the exit code ``RESTART``. What is raised
    here ends it at once, since the others may be waiting for it in a collective operation, and it for them.

    Args:
      job: of which processes, and which one this is; None to be on its own.

    Raises:
      ConfigError: if the coordinator's port is taken.

    Example:
      >>> with joined(find_job("auto", None, None, None)):  # doctest: +SKIP
      ...     train(experiment, run_dir)
      ...     leave()
    """
    if job is not None:
        _join(job)
    try:
        yield
    except BaseException as error:
        if not _relays:
            raise
        _give_up(error)


def _join(job: Job) -> None:
    host, _, port = job.coordinator.rpartition(":")
    try:
        relay = Relay(job.process_id, (host, int(port)), lambda number: _end(f"process {number} has ended", job))
    except OSError as error:
        raise ConfigError(f"{job.coordinator}: listening failed ({error.strerror}): choose another port") from error
    # gRPC would ask a proxy even for this host; the relay asks none.
    os.environ["no_grpc_proxy"] = "127.0.0.1"  # noqa: SIM112
    jax.config.update("jax_check_proxy_envs", False)
    waiting = Timer(_COMING_TAKES, lambda: _end(f"not all came within {_COMING_TAKES:g} s", job))
    waiting.start()
    jax.distributed.initialize(
        relay.address,
        job.num_processes,
        job.process_id,
        None if job.local_id is None else [job.local_id],
        initialization_timeout=round(2 * _COMING_TAKES),  # at which JAX aborts
        coordinator_bind_address=relay.address,
    )
    waiting.cancel()
    _relays.append(relay)
    relay.watch(True)


def _end(reason: str, job: Job) -> NoReturn:
    end_process(f"{reason}, so process {job.process_id} of {job.num_processes} ends too; {_AGAIN}", RESTART)


def _give_up(error: BaseException) -> NoReturn:
    """End this process as the interpreter would, but without waiting for the others to end with it."""
    if isinstance(error, _OF_A_COLLECTIVE):
        time.sleep(_NEWS_TAKES)
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 1
    else:
        code = 1
        sys.excepthook(type(error), error, error.__traceback__)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def leave() -> None:
    """Part from the other processes, when all is done; all of them must ask. From here on, each may end alone."""
    any_process(False)
    _part()


def _part() -> None:
    """Leave the job where all do, each having heard from all others."""
    while _relays:
        _relays.pop().watch(False)
        jax.distributed.shutdown()


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
        _part()
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


def smallest_anywhere(number: int) -> int:
    """The smallest of all processes' numbers, so that they decide alike.

    Args:
      number: this one's, within 32 bits.

    Example:
      >>> smallest_anywhere(3)
      3
    """
    return -_largest(-number)


def processes_here() -> int:
    """Processes of the job on this host, told by its name; the first time, all of them must ask.

    Example:
      >>> processes_here()
      1
    """
    return 1 if jax.process_count() == 1 else _processes_named(socket.gethostname())


@cache
def _processes_named(host: str) -> int:
    """How many gave the same name as this one, of all that ask."""
    name = np.array(zlib.crc32(host.encode()), np.uint32)
    return int((multihost_utils.process_allgather(name) == name).sum())


def _largest(number: int) -> int:
    """The largest of all processes' numbers."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.process_allgather(np.array(number)).max())
