"""What must be settled before JAX starts: devices, threads, the compilation cache, other processes."""

import importlib.util
import os
from pathlib import Path

import jax

from metarl_jax.config import ConfigError


def set_up(devices: int | None) -> None:
    """Settings that JAX must have before it starts: virtual CPU devices, and the compilation cache.

    Args:
      devices: how many devices are wanted; None if the user did not say.
    """
    if not _has_accelerator():
        if devices is not None and devices > 1:
            jax.config.update("jax_num_cpu_devices", devices)
        elif not _virtual_devices_configured():
            # Inside one device XLA's threads wait for each other more than they work: one thread takes half the
            # CPU time and no longer. Several cores are used by several devices.
            os.environ.setdefault("NPROC", "1")
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(home / "metarl_jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _virtual_devices_configured() -> bool:
    return "JAX_NUM_CPU_DEVICES" in os.environ or "host_platform_device_count" in os.environ.get("XLA_FLAGS", "")


def _has_accelerator() -> bool:
    """Whether JAX would start on something else than the CPU, without starting it."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0] != "cpu"
    return any(importlib.util.find_spec(name) for name in ("jax_cuda13_plugin", "jax_cuda12_plugin", "libtpu"))


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
