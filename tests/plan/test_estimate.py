"""The plan of a small run on this machine, against what its shapes say."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, config_from_dict, traced_values
from metarl_jax.plan import estimate, targets
from metarl_jax.plan.estimate import plan
from metarl_jax.plan.kernels import Launches
from metarl_jax.plan.operations import Operations
from metarl_jax.plan.targets import Target, compilers, find_target
from metarl_jax.report.tables import plan_table
from metarl_jax.runs.build import build
from metarl_jax.runs.fit import Fit
from metarl_jax.runs.memory import Memory, trajectory_bytes
from metarl_jax.runs.program import make_program
from tests.helpers import TINY, metarl, write_config

REPTILE = {"name": "reptile", "num_inner_steps": 1}
RATES = Target("cpu", 1, 2**35, 1.0, 1e9, 1e9, 1e9, 1e-6)


@pytest.fixture(scope="module")
def config() -> Config:
    return config_from_dict(TINY | {"algorithm": REPTILE})


@pytest.fixture(scope="module")
def result(config: Config) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(estimate, "this_machine", lambda: RATES._replace(devices=len(jax.devices())))
        patch.setattr(jax, "devices", lambda: jax.local_devices()[:1])
        evaluation = config.evaluation.model_copy(update={"every": 1})
        return plan(config.model_copy(update={"evaluation": evaluation}), "cpu", confirm=False)


def made(config: Config, memory: Memory | None, lower_evaluation: Any = None) -> estimate._Compiled:
    return estimate._Compiled(build(config), Fit({}), Operations(), Launches(), memory, 0, 1.0, "", lower_evaluation)


def test_memory_holds_the_state_and_the_trajectories(config: Config, result: dict[str, Any]) -> None:
    memory, state = result["memory"], build(config).algorithm.init(jax.random.key(0))
    stored = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    # Besides the state: the seed, the count, and the indices of the tasks.
    numbers = len(jax.tree.leaves(traced_values(config)))  # XLA leaves those out that change nothing here
    assert 0 < memory["arguments"] - (stored + 4 + 4 + 4 * config.training.meta_batch_size) <= 4 * numbers
    assert memory["results"] > stored
    assert memory["trajectories"] == trajectory_bytes(build(config), 1)
    assert memory["temporary"] > memory["trajectories"] / 2  # XLA drops what nobody reads
    assert "kept" not in memory
    assert memory["total"] == sum(memory[part] for part in ("arguments", "results", "temporary", "code"))
    assert memory["fits"]


def test_an_evaluation_while_training_is_planned_too(config: Config, result: dict[str, Any]) -> None:
    evaluation = result["evaluation"]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(build(config).algorithm.init(jax.random.key(0)).params))
    moments = sum(leaf.nbytes for leaf in jax.tree.leaves(build(config).algorithm.init(jax.random.key(0)))) - parameters
    assert evaluation["fits"]
    assert evaluation["memory"]["training_state"] == moments > 0
    assert parameters <= evaluation["memory"]["arguments"] < result["memory"]["arguments"]
    assert "memory of an evaluation, with the training state" in plan_table(result, "tiny").columns[0].cells
    too_large = plan_table(result | {"evaluation": evaluation | {"fits": False, "remedy": "lower it"}}, "tiny")
    assert str(too_large.caption).startswith("an update fits\nan evaluation does not fit: lower it\n")
    refused = plan_table(result | {"evaluation": {"compiles": False, "why": "too big"}}, "tiny")
    assert "an evaluation does not compile: too big\n" in str(refused.caption)


def test_an_evaluation_that_does_not_fit_says_what_is_smaller(config: Config, result: dict[str, Any]) -> None:
    class Lowered:
        def compile(self) -> Any:
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Used 23.50G of 15.75G hbm\nand so on")

    program = make_program(build(config), jax.local_devices()[:1])
    small = estimate._evaluation(made(config, None, program.lower_evaluation), RATES._replace(memory=1000))
    assert (small["fits"], small["memory"]["total"]) == (False, result["evaluation"]["memory"]["total"])
    assert small["remedy"].startswith("lower evaluation.")
    assert estimate._evaluation(made(config, None, Lowered), RATES) == {
        "compiles": False,
        "why": "RESOURCE_EXHAUSTED: Used 23.50G of 15.75G hbm",
    }


def test_an_episode_is_its_numbers(config: Config) -> None:
    # Percept: 2 numbers seen, 2 done, 1 earned, 1 that says whether it begins. Then action 2, five numbers of the step,
    # mean and logarithm of the deviation 2 each, advantage and target; at the end what would have been seen.
    episode = 5 * (6 + 2 + 5 + 4 + 2) + 6
    assert trajectory_bytes(build(config), 1) == 4 * episode * 3 * 2 * 4
    assert trajectory_bytes(build(config), 2) == 4 * episode * 3 * 2 * 2


def test_work_is_counted(result: dict[str, Any]) -> None:
    kernels, seconds = result["kernels"], result["seconds"]
    assert 1 < kernels["per_environment_step"] < kernels["per_update"] / 10  # two stages of five steps, and the rest
    assert result["operations"]["others"] > 0
    assert seconds["launches"] == pytest.approx(kernels["per_update"] * RATES.kernel_seconds)
    assert seconds["per_update"] == max(seconds.values())


def test_the_largest_meta_batch_fits_surely(result: dict[str, Any]) -> None:
    memory = result["memory"]
    assert result["largest_meta_batch"] == int(4 * memory["usable"] / memory["total"])
    assert result["compiled_meta_batch"] is None
    assert memory["usable"] == 2**35 - memory["process"]


def test_the_largest_meta_batch_is_linear_in_memory(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """1000 bytes, and 10 for each task, of 5001 on each of two devices; the first guess is what surely fits."""
    asked: list[int] = []

    def compile_(config: Config, target: Target, devices: Sequence[Any]) -> estimate._Compiled:
        size = config.training.meta_batch_size
        asked.append(size)
        memory = Memory(1000, 0, 10 * size // 2, 0)
        return made(config, memory)

    rates = RATES._replace(platform="gpu", devices=2, memory=5001)
    monkeypatch.setattr(estimate, "_compile", compile_)
    monkeypatch.setattr(estimate, "find_target", lambda name: rates)
    monkeypatch.setattr(estimate, "absent_devices", lambda name: [None, None])
    planned = plan(config, "h100")
    assert asked == [4, 16]  # 4 tasks take 1020: 18 certainly fit, 16 with any divisor of 4
    assert (planned["largest_meta_batch"], planned["compiled_meta_batch"]) == (800, 16)


def test_where_less_than_twice_the_tasks_surely_fits_twice_is_tried(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not grow with the tasks hides how many fit: 1000 bytes, and 10 for each, of 1500."""

    def compile_(config: Config, target: Target, devices: Sequence[Any]) -> estimate._Compiled:
        memory = Memory(1000, 0, 10 * config.training.meta_batch_size, 0)
        return made(config, memory)

    monkeypatch.setattr(estimate, "_compile", compile_)
    monkeypatch.setattr(estimate, "find_target", lambda name: RATES._replace(platform="gpu", devices=1, memory=1500))
    monkeypatch.setattr(estimate, "absent_devices", lambda name: [None])
    planned = plan(config, "h100")
    assert (planned["largest_meta_batch"], planned["compiled_meta_batch"]) == (50, 8)


def test_what_does_not_divide_a_smaller_meta_batch_is_no_mistake_of_the_users(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 4 tasks 3 fit, which the user's minibatches may not divide."""

    def compile_(config: Config, target: Target, devices: Sequence[Any]) -> estimate._Compiled:
        if config.training.meta_batch_size == 3:
            raise Refusal("num_minibatches", 2, "must divide the tasks")
        return made(config, Memory(40, 0, 0, 0))

    monkeypatch.setattr(estimate, "_compile", compile_)
    monkeypatch.setattr(estimate, "find_target", lambda name: RATES._replace(platform="gpu", devices=1, memory=39))
    monkeypatch.setattr(estimate, "absent_devices", lambda name: [None])
    planned = plan(config, "h100")
    assert (planned["largest_meta_batch"], planned["compiled_meta_batch"]) == (3, None)


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_products_whose_tiles_a_gpu_would_have_chosen_are_not_fused(platform: str) -> None:
    """Elsewhere the compiler's refusal stands."""

    class Lowered:
        def compile(self, options: dict[str, bool] | None = None) -> str:
            if options != {"xla_gpu_enable_triton_gemm": False}:
                raise jax.errors.JaxRuntimeError("no tile sizes")
            return "compiled"

    if platform == "gpu":
        assert estimate._for_target(Lowered(), find_target("h100")) == "compiled"
    else:
        with pytest.raises(jax.errors.JaxRuntimeError, match="no tile sizes"):
            estimate._for_target(Lowered(), find_target("v5e:2x2"))


@pytest.mark.slow
@pytest.mark.parametrize(("target", "devices"), [("h100", 1), ("v5e:2x2", 4)])
def test_devices_that_are_not_here_are_compiled_for(
    config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, target: str, devices: int
) -> None:
    """By a command of its own, since a plugin stays in the process that it was started in."""
    if set(compilers(target)) == {"jax"}:
        pytest.skip(f"no plugin here that compiles for {target}")
    monkeypatch.delenv("XLA_FLAGS", raising=False)  # those of the tests are a CPU's, at which a TPU's compiler stops
    file = write_config(tmp_path, REPTILE)
    planned = json.loads(metarl("plan", file, "--target", target, "--json", check=True).stdout)
    assert planned["compiles"]
    assert planned["devices"] == devices
    memory, kernels = planned["memory"], planned["kernels"]
    assert memory["trajectories"] == trajectory_bytes(build(config), devices)
    assert 0 < memory["temporary"] < memory["total"] < memory["usable"]
    assert 1 < kernels["per_environment_step"] < kernels["per_update"] / 10
    assert planned["compiled_meta_batch"] > config.training.meta_batch_size


def test_it_is_shown(result: dict[str, Any]) -> None:
    table = plan_table(result, "tiny")
    assert table.title == "tiny on cpu: 4 tasks on 1 device"
    assert str(table.caption).startswith("an update fits\nan evaluation fits\n")
    alone = plan_table({key: value for key, value in result.items() if key != "evaluation"}, "tiny")
    assert str(alone.caption).startswith("it fits\nestimate")
    names = list(table.columns[0].cells)
    assert names.index("memory: trajectories, in the temporary") == names.index("memory: temporary") + 1
    refused = plan_table(
        {"target": "h100", "devices": 1, "meta_batch_size": 4, "compiles": False, "why": "too big"}, "x"
    )
    assert str(refused.caption) == "does not compile: too big"


def test_what_a_compiler_wants_is_read_from_its_message() -> None:
    message = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 23.50G of 15.75G hbm. Exceeded hbm by"
    assert estimate._used(message) == int(23.5 * 2**30)
    assert estimate._used("INTERNAL: something else") is None


def test_the_rates_of_this_machine_are_measured() -> None:
    machine = targets.this_machine()
    assert machine.devices == len(jax.devices())
    assert 1e8 < machine.others < 1e13
    assert 1e8 < machine.bandwidth < 1e13
