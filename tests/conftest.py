"""Settings for all tests: CPU only, and one compilation cache that lives as long as the session.

Tests start the command in processes of their own and build the same small programs again: the cache is what a user
has by default, and it must not change any result.
"""

import gc
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.xla_flags import accepted, pinned

_CACHE = "JAX_COMPILATION_CACHE_DIR"
_OURS = _CACHE not in os.environ  # pytest-xdist's workers inherit the controller's

if _OURS:
    os.environ[_CACHE] = tempfile.mkdtemp(prefix="metarl_jax_tests_")
# Compilation is nearly all the time that tests of small programs take: do not optimise them.
_FLAGS = (
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE",
    "--xla_cpu_parallel_codegen_split_count=1",
)
if "PYTEST_XDIST_WORKER" not in os.environ:  # these inherit them
    constraints = Path(__file__).parents[1] / "constraints.txt"
    # What is pinned takes these flags: no process need be started to ask.
    is_known = version("jaxlib") == pinned("jaxlib", constraints.read_text())
    taken = " ".join(_FLAGS if is_known else accepted(_FLAGS))
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {taken}".strip()
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")  # what is compiled need not say where from
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.pop("COLUMNS", None)  # pytest-xdist's workers are 80 wide, and messages broken where paths are long
os.environ.setdefault("NPROC", "1")  # one XLA thread: two workers of pytest-xdist share two cores
gc.set_threshold(100_000)  # as the command does: what tracing makes stays, and looking through it takes a twentieth


OPTIONAL = {
    "gymnax": ("metarl_jax.tasks.adapters.gymnax", "metarl_jax.tasks.games.minatar"),
    "mujoco_playground": ("metarl_jax.tasks.adapters.playground",),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Docstrings of what is optional are tested where it is installed."""
    for package, modules in OPTIONAL.items():
        if find_spec(package) is None:
            for item in items:
                if isinstance(item, pytest.DoctestItem) and item.name.startswith(modules):
                    item.add_marker(pytest.mark.skip(reason=f"{package} is not installed"))


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """``(name, code)``: a module in a user's working directory, the test's folder, that is forgotten again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))

    def write(name: str, code: str) -> None:
        monkeypatch.delitem(sys.modules, name, raising=False)
        (tmp_path / f"{name}.py").write_text(code)

    return write


def pytest_unconfigure(config: pytest.Config) -> None:
    if _OURS:
        shutil.rmtree(os.environ[_CACHE], ignore_errors=True)
