"""Settings before JAX starts, where an accelerator's plugin is installed and no device is there."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from metarl_jax.runs.startup import _plugins, cache_settings

# One that fails as NVIDIA's does without its libraries, and one that only starting shows to have no device.
BROKEN = """
import jax


def initialize():
    if jax.config.jax_platforms != "cpu":
        raise RuntimeError("no such library")
"""
IN_VAIN = """
from jax._src import xla_bridge


def initialize():
    xla_bridge.register_backend_factory("other", fail, priority=500, fail_quietly=False)


def fail():
    raise RuntimeError("no chip")
"""
REPORT = """
import json, os, sys
from metarl_jax.runs.startup import set_up
set_up(int(sys.argv[1]) or None)
import jax
print(json.dumps([str(jax.devices()[0].platform), jax.device_count(), os.environ.get("NPROC")]))
"""


@pytest.mark.skipif(bool(_plugins()), reason="an accelerator's plugin is installed here")
@pytest.mark.parametrize(
    ("name", "code", "devices", "found"),
    [
        ("xla_cuda13", BROKEN, 2, ["cpu", 2, "3"]),
        ("xla_cuda13", BROKEN, 0, ["cpu", 1, "1"]),
        ("xla_other", BROKEN, 2, ["cpu", 2, "3"]),
        ("xla_other", IN_VAIN, 2, ["cpu", 2, "3"]),
    ],
)
def test_a_plugin_without_a_device_is_named_once_and_left_out(
    tmp_path: Path, name: str, code: str, devices: int, found: list[object]
) -> None:
    (tmp_path / "jax_plugins" / name).mkdir(parents=True)
    (tmp_path / "jax_plugins" / name / "__init__.py").write_text(code)
    inherited = {key: value for key, value in os.environ.items() if key not in {"JAX_PLATFORMS", "NPROC"}}
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(devices)],
        env={**inherited, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == found
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"no device for {name}")
    assert "so this runs on the CPU: check the driver (nvidia-smi shows NVIDIA's)" in line
    if name == "xla_other":
        assert ("no chip" if code == IN_VAIN else "no such library") in line


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({}, {"dir", "max_size", "min_compile_time_secs"}),
        ({"JAX_COMPILATION_CACHE_DIR": "mine"}, {"min_compile_time_secs"}),
        ({"JAX_COMPILATION_CACHE_MAX_SIZE": "9"}, {"dir", "min_compile_time_secs"}),
        ({"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}, {"dir", "max_size"}),
    ],
)
def test_what_the_user_says_of_the_cache_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], kept: set[str]
) -> None:
    for name in ("COMPILATION_CACHE_DIR", "COMPILATION_CACHE_MAX_SIZE", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(f"JAX_{name}", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = cache_settings()
    assert {name.partition("_cache_")[2] for name in settings} == kept
    assert settings.get("jax_compilation_cache_dir", str(tmp_path / "metarl_jax/programs")).startswith(str(tmp_path))


def test_the_cache_is_bounded(tmp_path: Path) -> None:
    """JAX takes the bound: the oldest program goes."""
    code = (
        "import jax\nfrom metarl_jax.runs import startup\n"
        "startup._WORTH_KEEPING, startup._CACHE_BYTES = 0.0, 6000\nstartup.set_up(1)\n"
        "for n in range(1, 9): jax.jit(lambda x: x * n)(1.0)\n"
    )
    variables = ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS")
    inherited = {key: value for key, value in os.environ.items() if key not in variables}
    subprocess.run([sys.executable, "-c", code], env={**inherited, "XDG_CACHE_HOME": str(tmp_path)}, check=True)
    sizes = [file.stat().st_size for file in (tmp_path / "metarl_jax/programs").glob("*-cache")]
    assert 0 < sum(sizes) <= 6000


CHOICE = """
import json, sys
import metarl_jax.runs.startup as startup
startup.usable_cores = lambda: 6
suits = {"tasks": lambda number: 20 % number == 0, "nothing": lambda number: False}
startup.set_up(None, *([suits[sys.argv[1]]] if sys.argv[1] in suits else []))
import jax, os
print(jax.device_count(), os.environ["NPROC"])
"""


@pytest.mark.parametrize(
    ("work", "settings", "found"),
    [
        ("tasks", {}, "5 6"),
        ("nothing", {}, "1 1"),
        ("unsaid", {}, "1 1"),
        ("tasks", {"JAX_NUM_CPU_DEVICES": "3"}, "3 4"),
        ("tasks", {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "NPROC": "9"}, "2 9"),
        ("tasks", {"JAX_NUM_CPU_DEVICES": "2", "NPROC": "2"}, "2 3"),
    ],
)
def test_all_cores_that_the_work_can_use_unless_the_user_says_how_many(
    work: str, settings: dict[str, str], found: str
) -> None:
    """Of several devices all may hold a thread at once, and wait for one that is free."""
    inherited = {key: value for key, value in os.environ.items() if key not in {"JAX_NUM_CPU_DEVICES", "NPROC"}}
    done = subprocess.run(
        [sys.executable, "-c", CHOICE, work],
        env={**inherited, "JAX_PLATFORMS": "cpu", **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.strip() == found
