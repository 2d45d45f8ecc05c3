"""Hardware that a run can be planned for, here or not: what it can do, and how to compile for it."""

import os
import time
from collections.abc import Callable
from importlib.metadata import distributions, version
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import topologies

from metarl_jax.checks import Refusal, did_you_mean
from metarl_jax.runs.memory import host_bytes

Platform = Literal["gpu", "tpu", "cpu"]


class Gpu(NamedTuple):
    """What XLA must know of a GPU to compile for it: of one multiprocessor, and of all of them together.

    Attributes:
      name: as the driver gives it.
      capability: CUDA's compute capability, major and minor.
      cores: multiprocessors.
      lanes: 32-bit floating-point units of each.
      threads: at most, resident in each.
      shared_bytes: shared memory of each.
      block_bytes: at most of it for one block of threads.
      cache_bytes: of the second level.
      clock: in GHz.
    """

    name: str
    capability: tuple[int, int]
    cores: int
    lanes: int
    threads: int
    shared_bytes: int
    block_bytes: int
    cache_bytes: int
    clock: float


class Target(NamedTuple):
    """A kind of hardware, by the rates of one device of it.

    Attributes:
      platform: as JAX names it.
      devices: that share the meta-batch.
      memory: main memory, bytes.
      usable: the part of it that JAX takes.
      bandwidth: of the main memory, bytes per second.
      products: floating-point operations per second in products of float32 at JAX's default precision: TF32 on GPUs,
        bfloat16 on TPUs.
      others: floating-point operations per second outside products.
      kernel_seconds: what the smallest kernel takes with all that comes with it; a rule of thumb.
      gpu: for a GPU.
    """

    platform: Platform
    devices: int
    memory: int
    usable: float
    bandwidth: float
    products: float
    others: float
    kernel_seconds: float
    gpu: Gpu | None = None


_KIB, _MIB, _GIB = 2**10, 2**20, 2**30
_SM90 = ((9, 0), 132, 128, 2048, 228 * _KIB, 227 * _KIB, 50 * _MIB, 1.98)
_SM80 = ((8, 0), 108, 64, 2048, 164 * _KIB, 163 * _KIB, 40 * _MIB, 1.41)
_SM89 = ((8, 9), 128, 1536, 100 * _KIB, 99 * _KIB)


def _gpu(gpu: Gpu, memory: int, bandwidth: float, products: float, others: float) -> Target:
    # A kernel of XLA's is launched every 3 microseconds or so; three quarters of the memory is what JAX preallocates.
    return Target("gpu", 1, memory, 0.75, bandwidth, products, others, 3e-6, gpu)


def _tpu(memory: int, bandwidth: float, products: float, others: float) -> Target:
    # Instructions of one program, issued by the chip itself.
    return Target("tpu", 4, memory, 1.0, bandwidth, products, others, 0.5e-6)


TARGETS: dict[str, Target] = {
    "h100": _gpu(Gpu("NVIDIA H100 80GB HBM3", *_SM90), 84_978_434_048, 3.352e12, 495e12, 67e12),
    "h200": _gpu(Gpu("NVIDIA H200", *_SM90), 150_754_820_096, 4.8e12, 495e12, 67e12),
    "a100-40": _gpu(Gpu("NVIDIA A100-SXM4-40GB", *_SM80), 42_298_834_944, 1.555e12, 156e12, 19.5e12),
    "a100-80": _gpu(Gpu("NVIDIA A100-SXM4-80GB", *_SM80), 84_987_740_160, 2.039e12, 156e12, 19.5e12),
    "l40s": _gpu(
        Gpu("NVIDIA L40S", _SM89[0], 142, *_SM89[1:], 96 * _MIB, 2.52), 47_810_936_832, 0.864e12, 183e12, 91.6e12
    ),
    "rtx4090": _gpu(
        Gpu("NVIDIA GeForce RTX 4090", _SM89[0], 128, *_SM89[1:], 72 * _MIB, 2.52),
        25_386_352_640,
        1.008e12,
        82.6e12,
        82.6e12,
    ),
    "v5e:2x2": _tpu(int(15.75 * _GIB), 0.819e12, 197e12, 6.1e12),
    "v5p:2x2x1": _tpu(int(95.74 * _GIB), 2.765e12, 459e12, 14e12),
    "v6e:2x2": _tpu(int(31.25 * _GIB), 1.64e12, 918e12, 7.2e12),
}
"""By name; a TPU's is that of its topology. Rates are the makers', those of TPUs outside products estimates."""
HERE = "cpu"
"""The target that is this machine."""
NAMES = (*TARGETS, HERE)


def this_machine() -> Target:
    """The CPU devices of this process, by rates that are measured now, in a second.

    Returns:
      The target. The machine's memory is shared by its devices; the bandwidth is that of the cache, in which a CPU's
      programs are made to stay.
    """
    size, cached, steps = 1024, 2**16, 1000
    product = _seconds(lambda x: x @ x, jnp.ones((size, size)))
    sweeps = _seconds(lambda x: jax.lax.fori_loop(0, steps, lambda _, y: y * 0.5 + x, x), jnp.ones(cached))
    devices = len(jax.devices())
    memory = host_bytes() or 2**63
    rates = 3 * 4 * steps * cached / sweeps, 2 * size**3 / product, 2 * steps * cached / sweeps
    return Target("cpu", devices, memory // devices, 1.0, *rates, 0.5e-6)


def _seconds(function: Callable[[jax.Array], jax.Array], argument: jax.Array) -> float:
    """The shortest of a few calls, once compiled."""
    compiled = jax.jit(function).lower(argument).compile()
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        jax.block_until_ready(compiled(argument))
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def find_target(name: str) -> Target:
    """Look a target up.

    Raises:
      Refusal: if there is none of this name.

    Example:
      >>> find_target("h100").gpu.cores
      132
    """
    if name not in TARGETS:
        suggestion = did_you_mean(name, NAMES) or ";"
        raise Refusal("target", name, f"no such target{suggestion} choose one of: {', '.join(NAMES)}")
    return TARGETS[name]


def target_here(device: jax.Device) -> tuple[str, Target] | None:
    """What a device of this process is as a target: its rates, of a CPU measured now, in a second.

    Args:
      device: to be looked up by what it calls itself.

    Returns:
      The target's name and rates; None of a device that is no target.
    """
    if device.platform == "cpu":
        return HERE, this_machine()
    return next(((name, one) for name, one in TARGETS.items() if device.device_kind in _kinds(name, one)), None)


def _kinds(name: str, target: Target) -> tuple[str, ...]:
    return _TPU_KINDS[name] if target.gpu is None else (target.gpu.name,)


_TPU_KINDS = {
    "v5e:2x2": ("TPU v5 lite", "TPU v5e"),
    "v5p:2x2x1": ("TPU v5", "TPU v5p"),
    "v6e:2x2": ("TPU v6 lite", "TPU v6e"),
}
"""What each chip calls itself, by its topology."""


def stay_on_cpu() -> None:
    """Have JAX start on the CPU, since what is compiled for is not touched, and take nothing from a cache."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)


def absent_devices(name: str) -> list[Any]:
    """Stand-ins for a target's devices, for which programs can be compiled but not run.

    Args:
      name: of :data:`TARGETS`.

    Returns:
      The devices, as ``jax.pmap`` takes them.

    Raises:
      Refusal: if there is no such target, or the plugin that compiles for it is not installed.
    """
    target = find_target(name)
    packages, install = _PLUGINS[target.platform]
    if not any(map(_is_installed, packages)):
        raise Refusal("target", name, f"needs the compiler of a plugin for JAX, but no device: pip install {install}")
    jax.devices()  # finds the plugins
    if target.gpu is not None:
        shape = f"1x1x{target.devices}"
        options = {"topology": shape, "target_config": gpu_config(target)}
        return list(topologies.get_topology_desc(platform="cuda", topology_name=shape, **options).devices)
    for variable, value in _NO_TPU.items():
        os.environ.setdefault(variable, value)
    return list(topologies.get_topology_desc(platform="tpu", topology_name=name).devices)


def compilers(name: str) -> dict[str, str]:
    """Versions of what compiles for a target: of JAX and, of devices that are not here, of their plugin.

    Args:
      name: of :data:`NAMES`.

    Returns:
      By package; what is not installed is left out.

    Example:
      >>> compilers("cpu") == {"jax": jax.__version__, "jaxlib": version("jaxlib")}
      True
    """
    packages = ("jaxlib",) if name == HERE else _PLUGINS[find_target(name).platform][0]
    return {package: version(package) for package in ("jax", *packages) if _is_installed(package)}


def _is_installed(package: str) -> bool:
    return any(distributions(name=package))


_PLUGINS = {
    "gpu": (
        ("jax-cuda13-plugin", "jax-cuda12-plugin"),
        "--no-deps jax-cuda13-plugin=={0} jax-cuda13-pjrt=={0}".format(version("jax")),
    ),
    "tpu": (("libtpu",), "libtpu"),
}
_NO_TPU = {"TPU_SKIP_MDS_QUERY": "1", "TPU_ACCELERATOR_TYPE": "v5litepod-4", "TPU_WORKER_HOSTNAMES": "localhost"}
"""Without them libtpu asks the cloud what it runs on, at length."""


def gpu_config(target: Target) -> str:
    """A GPU as XLA reads it: the text of a ``GpuTargetConfigProto``.

    Args:
      target: a GPU.

    Returns:
      The text.

    Example:
      >>> gpu_config(TARGETS["a100-40"]).splitlines()[1]
      '  cuda_compute_capability { major: 8 minor: 0 }'
    """
    gpu = target.gpu
    assert gpu is not None
    numbers = {
        "threads_per_block_limit": 1024,
        "threads_per_warp": 32,
        "shared_memory_per_block": 48 * _KIB,
        "shared_memory_per_core": gpu.shared_bytes,
        "shared_memory_per_block_optin": gpu.block_bytes,
        "threads_per_core_limit": gpu.threads,
        "core_count": gpu.cores,
        "fpus_per_core": gpu.lanes,
        "block_dim_limit_x": 2**31 - 1,
        "block_dim_limit_y": 2**16 - 1,
        "block_dim_limit_z": 2**16 - 1,
        "memory_bandwidth": int(target.bandwidth),
        "l2_cache_size": gpu.cache_bytes,
        "clock_rate_ghz": gpu.clock,
        "device_memory_size": target.memory,
    }
    major, minor = gpu.capability
    lines = [
        "gpu_device_info {",
        f"  cuda_compute_capability {{ major: {major} minor: {minor} }}",
        *(f"  {name}: {value}" for name, value in numbers.items()),
        "}",
        'platform_name: "CUDA"',
        "dnn_version_info { major: 9 minor: 10 patch: 0 }",
        f'device_description_str: "{gpu.name}"',
    ]
    return "\n".join(lines)
