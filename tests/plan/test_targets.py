"""The table of hardware, and what is said where its compiler is not."""

import re
from types import SimpleNamespace
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.plan import targets
from metarl_jax.plan.targets import NAMES, TARGETS, absent_devices, find_target, gpu_config, target_here


def test_every_target_of_the_issue_is_there() -> None:
    gpus = ("h100", "h200", "a100-40", "a100-80", "l40s", "rtx4090")
    assert (*gpus, "v5e:2x2", "v5p:2x2x1", "v6e:2x2", "cpu") == NAMES
    assert {name for name, target in TARGETS.items() if target.platform == "gpu"} == set(gpus)


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.gpu is not None])
def test_a_gpu_is_told_to_xla_in_bytes_and_whole(name: str) -> None:
    target, text = TARGETS[name], gpu_config(TARGETS[name])
    fields = dict(re.findall(r"^  (\w+): (\S+)$", text, re.MULTILINE))
    assert text.count("{") == text.count("}")
    assert int(fields["device_memory_size"]) == target.memory
    assert int(fields["memory_bandwidth"]) == target.bandwidth
    assert int(fields["shared_memory_per_block_optin"]) < int(fields["shared_memory_per_core"])
    assert target.gpu is not None
    # The vector units' rate is two operations of each lane in each cycle.
    assert target.others == pytest.approx(2e9 * target.gpu.cores * target.gpu.lanes * target.gpu.clock, rel=0.02)


def test_an_unknown_target_is_refused() -> None:
    with pytest.raises(
        Refusal, match=r"target = 'h10': no such target; did you mean 'h100'\? choose one of: h100, h200"
    ):
        find_target("h10")


@pytest.mark.parametrize(
    ("name", "install"), [("h100", "--no-deps jax-cuda13-plugin==.* jax-cuda13-pjrt=="), ("v5e:2x2", "libtpu")]
)
def test_a_missing_compiler_is_one_sentence(monkeypatch: pytest.MonkeyPatch, name: str, install: str) -> None:
    monkeypatch.setattr(targets, "distributions", lambda name: iter(()))
    with pytest.raises(Refusal, match=f"target = '{name}': needs the compiler of a plugin.*: pip install {install}"):
        absent_devices(name)


@pytest.mark.parametrize(
    ("platform", "kind", "name"),
    [
        ("gpu", "NVIDIA H100 80GB HBM3", "h100"),
        ("gpu", "NVIDIA A100-SXM4-40GB", "a100-40"),
        ("tpu", "TPU v5 lite", "v5e:2x2"),
        ("tpu", "TPU v6 lite", "v6e:2x2"),
        ("gpu", "NVIDIA T4", None),
    ],
)
def test_a_device_that_is_here_is_known_by_what_it_calls_itself(platform: str, kind: str, name: str | None) -> None:
    device: Any = SimpleNamespace(platform=platform, device_kind=kind)
    assert target_here(device) == (None if name is None else (name, TARGETS[name]))
