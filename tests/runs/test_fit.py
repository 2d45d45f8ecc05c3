"""What ``auto`` chooses: fast if it fits, recomputing if that is what it takes, then fewer tasks at once."""

from typing import Any

import pytest

from metarl_jax.algorithms.gradient.assembly import collect_chunk, gradient_chunk
from metarl_jax.checks import Refusal
from metarl_jax.config import Config, ConfigError
from metarl_jax.runs import fit
from metarl_jax.runs.build import build
from metarl_jax.runs.fit import activation_bytes, settle
from metarl_jax.runs.memory import trajectory_bytes
from metarl_jax.types import AUTO
from tests.helpers import tiny_config


def config(**algorithm: Any) -> Config:
    return tiny_config(algorithm={"num_inner_steps": 4, "remat": "auto", "task_chunk": "auto", **algorithm})


@pytest.fixture(scope="module")
def sizes() -> dict[str, int]:
    plain = build(config(remat=False))
    kept = activation_bytes(build(config(remat=True)))
    held = activation_bytes(plain)
    stored = trajectory_bytes(plain, 1)
    assert stored is not None
    return {"stored": stored, "plain": held, "recomputed": kept + (held - kept) // 4}


def with_room(sizes: dict[str, int], held: float) -> int:
    """Usable memory that leaves room for so many bytes beside the trajectories."""
    return int((sizes["stored"] + held) / 0.9) + 2


def test_recomputing_keeps_less(sizes: dict[str, int]) -> None:
    assert sizes["recomputed"] < sizes["plain"] / 2


def test_all_at_once_if_it_fits(sizes: dict[str, int]) -> None:
    _, chosen = settle(config(), "gpu", with_room(sizes, 4 * sizes["plain"]), 1)
    assert chosen.settings == {"remat": False, "task_chunk": 4}
    assert (chosen.trajectories, chosen.plain, chosen.recomputed) == tuple(sizes.values())
    assert settle(config(), "gpu", None, 1)[1].settings == {"remat": False, "task_chunk": 4}


def test_then_recomputing_then_fewer_tasks(sizes: dict[str, int]) -> None:
    experiment, chosen = settle(config(), "gpu", with_room(sizes, 4 * sizes["plain"] - 8), 1)
    assert chosen.settings == {"remat": True, "task_chunk": 4}
    assert activation_bytes(experiment) == activation_bytes(build(config(remat=True)))
    assert settle(config(), "gpu", with_room(sizes, 3 * sizes["recomputed"]), 1)[1].settings["task_chunk"] == 3
    assert settle(config(), "gpu", 1, 1)[1].settings == {"remat": True, "task_chunk": 1}


def test_what_is_given_stays(sizes: dict[str, int]) -> None:
    room = with_room(sizes, 2 * sizes["plain"])
    assert settle(config(remat=False), "gpu", room, 1)[1].settings == {"task_chunk": 2}
    assert settle(config(task_chunk=2), "gpu", room, 1)[1].settings == {"remat": False}
    assert settle(config(remat=False, task_chunk=3), "gpu", 1, 1)[1].settings == {}


def test_devices_share_the_tasks() -> None:
    assert settle(config(), "gpu", None, 2)[1].settings["task_chunk"] == 2


def test_on_cpus_auto_chunks_are_those_of_a_chunk_that_is_left_out() -> None:
    experiment, chosen = settle(config(), "cpu", None, 1)
    assert chosen.settings == {"remat": False}
    assert (collect_chunk(experiment.family, AUTO, 20), gradient_chunk(AUTO)) == (5, 1)


def test_left_out_means_all_at_once_on_hardware_that_is_not_here() -> None:
    assert settle(tiny_config(), "tpu", None, 2)[1].settings == {"task_chunk": 2}
    assert settle(tiny_config(), "cpu", None, 2)[1].settings == {}


def test_called_directly_auto_is_as_if_left_out() -> None:
    assert build(config()).algorithm.tasks_at_once == build(tiny_config()).algorithm.tasks_at_once
    assert activation_bytes(build(config())) == activation_bytes(build(config(remat=False)))


def test_a_meta_batch_that_cannot_be_shared_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a multiple of the number of devices, 3"):
        settle(config(), "gpu", None, 3)


def test_steps_on_the_host_are_refused_on_accelerators(monkeypatch: pytest.MonkeyPatch) -> None:
    made = build(tiny_config())
    monkeypatch.setattr(fit, "build", lambda *_, **__: made._replace(family=made.family._replace(on_host=True)))
    assert settle(tiny_config(), "cpu", None, 1)[0].family.on_host
    with pytest.raises(
        Refusal, match=r"tasks.backend = None: steps on the host, for which TPUs wait .* such as mjx or"
    ):
        settle(tiny_config(), "tpu", None, 1)


def test_other_words_than_auto_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"algorithm.remat: must be true or false or auto \(got 'always'\)"):
        config(remat="always")
    with pytest.raises(ConfigError, match=r"task_chunk: must be a whole number greater than 0 or auto or null"):
        config(task_chunk="all")
