"""How much of the machine this process may use."""

import math
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores that this process may use: those that it is bound to, within the quota of its container.

    Args:
      cgroup: where the kernel shows the quota, of either version.

    Returns:
      At least 1. Half a core is a core.

    Example:
      >>> usable_cores() >= 1
      True
    """
    bound = len(bound_to()) or os.cpu_count() or 1
    return max(1, min(bound, math.ceil(_quota(cgroup))))


def bound_to() -> list[int]:
    """The cores that this thread is bound to, in order; none where the system does not bind threads.

    Example:
      >>> bound_to() == sorted(bound_to())
      True
    """
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def bind(cores: Collection[int]) -> None:
    """Keep this thread, and the processes that it starts, to some cores.

    Args:
      cores: of :func:`bound_to`; none changes nothing.

    Example:
      >>> bind(bound_to())
    """
    if cores:
        os.sched_setaffinity(0, cores)


@contextmanager
def kept_to(cores: Collection[int]) -> Iterator[None]:
    """:func:`bind` for a while; threads that start meanwhile stay there.

    Args:
      cores: of :func:`bound_to`.

    Example:
      >>> with kept_to(bound_to()[-1:]):
      ...     len(bound_to()) <= 1
      True
    """
    before = bound_to()
    bind(cores)
    try:
        yield
    finally:
        bind(before)


def _quota(cgroup: Path) -> float:
    """Seconds of computing that are allowed in each second; as many as there are cores where there is no limit."""
    unlimited = float(os.cpu_count() or 1)
    version_1 = (cgroup / "cpu" / "cpu.cfs_quota_us", cgroup / "cpu" / "cpu.cfs_period_us")
    files = ((cgroup / "cpu.max",), version_1)
    try:
        found = next((paths for paths in files if paths[0].is_file()), ())
        allowed, period = " ".join(path.read_text() for path in found).split()
        return unlimited if allowed in ("max", "-1") else int(allowed) / int(period)
    except (OSError, ValueError):
        return unlimited
