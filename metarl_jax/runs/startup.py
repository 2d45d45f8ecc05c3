"""What must be settled before JAX starts: devices, threads, the compilation cache."""

import glob
import importlib.util
import logging
import os
import pkgutil
import re
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax
from jax.extend.backend import clear_backends

from metarl_jax.cores import usable_cores

_WORTH_KEEPING = 0.1  # seconds of compilation; reading a program takes hundredths
_CACHE_BYTES = 2**30  # hundreds of programs; what was not used for longest goes first


def set_up(devices: int | None, suits: Callable[[int], bool] = lambda number: number == 1) -> None:
    """Settings that JAX must have before it starts: virtual CPU devices, and the compilation cache.

    A process that joins others does so first.

    Args:
      devices: how many devices are wanted; None if the user did not say.
      suits: whether the work can use so many devices: then, on the CPU, it gets one for each core if that suits, else
        the most that do.
    """
    if not _has_accelerator():
        number = _configured_devices() if devices is None else devices
        if number is None:
            most = 1 if jax.distributed.is_initialized() else usable_cores()  # several processes share a machine
            number = max((number for number in range(1, most + 1) if suits(number)), default=1)
        if number > 1 and (devices is not None or not virtual_devices_configured()):
            jax.config.update("jax_num_cpu_devices", number)
        # Not a thread for each core of the machine: inside one device XLA's threads wait for each other more than they
        # work. But one to spare: each of several devices may hold a thread that waits for a batch of factors, as of
        # MJX's physics (see ops.factors).
        fewest = number if number == 1 else number + 1
        given = os.environ.get("NPROC")
        if given is None or (given.isdecimal() and int(given) < fewest):
            os.environ["NPROC"] = str(fewest)
    for name, value in cache_settings().items():
        jax.config.update(name, value)


def cache_settings() -> dict[str, Any]:
    """How compiled programs are kept for the next start: JAX's settings, but for those that the environment has.

    A folder of the user's own is not bounded: in JAX, one that was filled without a bound cannot be bounded later.

    Example:
      >>> settings = cache_settings()  # doctest: +SKIP
      >>> settings["jax_compilation_cache_dir"], settings["jax_compilation_cache_max_size"]  # doctest: +SKIP
      ('/home/me/.cache/metarl_jax/programs', 1073741824)
    """
    settings: dict[str, Any] = {"jax_persistent_cache_min_compile_time_secs": _WORTH_KEEPING}
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        settings["jax_compilation_cache_dir"] = str(home / "metarl_jax" / "programs")
        settings["jax_compilation_cache_max_size"] = _CACHE_BYTES
    return {name: value for name, value in settings.items() if name.upper() not in os.environ}


def virtual_devices_configured() -> bool:
    """Whether the environment says how many devices a CPU is."""
    return _configured_devices() is not None


def _configured_devices() -> int | None:
    """How many devices a CPU is by the environment, if it says."""
    flag = re.search(r"host_platform_device_count=(\d+)", os.environ.get("XLA_FLAGS", ""))
    number = os.environ.get("JAX_NUM_CPU_DEVICES") or (flag and flag[1])
    return int(number) if number else None


_DEVICE_FILES = {
    "cuda": ("/dev/nvidia0", "/dev/nvidiactl", "/dev/dxg"),  # the last in WSL; JAX looks for the same
    "tpu": ("/dev/accel[0-9]*", "/dev/vfio/[0-9]*"),
}
"""Without one of its files a kind of accelerator is not there, and its plugin need not be asked."""


def _has_accelerator() -> bool:
    """Whether JAX starts on something else than the CPU; if a plugin is installed in vain, say so and leave it out."""
    platforms = os.environ.get("JAX_PLATFORMS", "")
    if platforms:
        return platforms.split(",")[0] != "cpu"
    plugins = _plugins()
    reason = ""
    if any(map(_may_have_device, plugins)):
        if jax.distributed.is_initialized():  # what a process of several has started it cannot take back
            return True
        found, reason = _ask_jax()
        if found:
            return True
    if plugins:
        jax.config.update("jax_platforms", "cpu")
        print(
            f"no device for {', '.join(plugins)}{reason and f' ({reason})'}, so this runs on the CPU: check the driver "
            "(nvidia-smi shows NVIDIA's) and that the job asked for a device; JAX_PLATFORMS=cpu does without this line",
            file=sys.stderr,
        )
    return False


def _plugins() -> list[str]:
    """The accelerators' plugins that are installed, whether there is a device or not."""
    names = {point.name for point in entry_points(group="jax_plugins")}
    folder = importlib.util.find_spec("jax_plugins")
    names |= {module.name for module in pkgutil.iter_modules(folder.submodule_search_locations if folder else [])}
    return sorted(names | ({"libtpu"} if importlib.util.find_spec("libtpu") else set()))


def _may_have_device(plugin: str) -> bool:
    files = next((files for kind, files in _DEVICE_FILES.items() if kind in plugin), None)
    return files is None or any(glob.glob(pattern) for pattern in files)


def _ask_jax() -> tuple[bool, str]:
    """Start JAX: whether it has found an accelerator, and, if it has not and was undone again, why."""
    said: list[logging.LogRecord] = []
    log = logging.getLogger("jax._src.xla_bridge")

    def keep(record: logging.LogRecord) -> bool:
        said.append(record)
        return False

    log.addFilter(keep)
    try:
        found, reason = jax.default_backend() != "cpu", ""
    except RuntimeError as error:
        found, reason = False, str(error)
    finally:
        log.removeFilter(keep)
    if found:
        for record in said:
            log.handle(record)
        return True, ""
    clear_backends()
    messages = [str(record.exc_info[1]) if record.exc_info else record.getMessage() for record in said]
    return False, (reason or " ".join(messages)).partition("\n")[0]
