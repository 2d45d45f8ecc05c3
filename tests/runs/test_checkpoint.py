"""Checkpoints survive what happens to files and processes, and never hand back wrong numbers."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.runs.checkpoint import Checkpoints
from metarl_jax.runs.snapshot import CheckpointError, take_snapshot
from metarl_jax.types import TrainState

ROOT = Path(__file__).parents[2]
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.inject_hyperparams(optax.adam)(1e-3))


def make_state(step: int, width: int = 120) -> TrainState:
    """A state whose every number depends on ``step``, with the leaf types that are awkward to store."""
    key = jax.random.key(step)
    params = {
        "mlp/~/w": jnp.asarray(np.random.default_rng(step).normal(size=(width, width)), jnp.float32),
        "half": jnp.full(3, step, jnp.bfloat16),
        "empty": jnp.zeros((0, 3)),
    }
    _, opt_state = OPTIMISER.update(jax.tree.map(jnp.ones_like, params), OPTIMISER.init(params), params)
    aux = {
        "kl_coefficient": jnp.full(2, 0.1 * step),
        "key": key,
        "keys": jax.random.split(jax.random.key(step, impl="rbg"), 2),
    }
    return TrainState(params, opt_state, aux, jnp.asarray(step, jnp.int32))


LIKE = jax.eval_shape(lambda: make_state(0))


def raw(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)


def assert_same(actual: Any, expected: Any) -> None:
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for (path, left), right in zip(jax.tree.leaves_with_path(actual), jax.tree.leaves(expected), strict=True):
        assert left.dtype == right.dtype, path
        assert left.shape == right.shape, path
        assert raw(left).tobytes() == raw(right).tobytes(), path


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "checkpoints"


def save_all(directory: Path, scores: dict[int, float | None], keep: int = 3) -> None:
    with Checkpoints(directory, keep) as checkpoints:
        for step, score in scores.items():
            checkpoints.save(step, make_state(step), {"seed": 7, "sizes": [step]}, score)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    middle = max(0, len(content) // 2 - 8)
    content[middle : middle + 16] = bytes(byte ^ 0xFF for byte in content[middle : middle + 16])
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def largest_file(directory: Path) -> Path:
    return max((path for path in directory.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def run_python(code: str, *arguments: object, devices: int = 1) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": "",
    }
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_round_trip_is_bit_equal(directory: Path) -> None:
    save_all(directory, {3: 1.0})
    restored = Checkpoints(directory).restore(LIKE)
    assert_same(restored.state, make_state(3))
    assert restored.step == 3
    assert restored.record == {"seed": 7, "sizes": [3]}


def test_without_a_part_per_device_the_leaves_are_those_of_older_versions() -> None:
    saved = take_snapshot(make_state(1)).leaves
    assert not [name for name in saved if not name.startswith((".params", ".opt_state", ".aux", ".step"))]


def test_restored_state_trains_on_as_the_saved_one_would(directory: Path) -> None:
    save_all(directory, {3: None})
    restored, original = Checkpoints(directory).restore(LIKE).state, make_state(3)

    @jax.jit
    def update(state: TrainState) -> TrainState:
        updates, opt_state = OPTIMISER.update(state.params, state.opt_state, state.params)
        return state._replace(params=optax.apply_updates(state.params, updates), opt_state=opt_state)

    assert_same(update(restored), update(original))


def test_newest_and_best_are_kept_also_across_processes(directory: Path) -> None:
    """The best of an earlier session must not fall to a worse one of this session, nor to nan or infinity."""
    save_all(directory, {1: 0.0, 2: 5.0, 3: 1.0, 4: float("nan")}, keep=2)
    with Checkpoints(directory, keep=2) as checkpoints:
        checkpoints.restore(LIKE)
        for step, score in {5: float("inf"), 6: None, 7: 4.0}.items():
            checkpoints.save(step, make_state(step), {}, score)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 6, 7]
        best = checkpoints.restore(LIKE, "best")
    assert best.step == 2
    assert_same(best.state, make_state(2))


def test_best_falls_back_to_the_next_best_then_to_unscored(directory: Path) -> None:
    save_all(directory, {1: 9.0, 2: None, 3: 5.0})
    reports: list[str] = []
    flip(largest_file(directory / "1"))
    assert Checkpoints(directory).restore(LIKE, "best", reports.append).step == 3
    flip(largest_file(directory / "3"))
    assert Checkpoints(directory).restore(LIKE, "best", reports.append).step == 2
    assert len(reports) == 3


@pytest.mark.parametrize("damage", [flip, truncate, empty])
def test_damaged_newest_is_reported_and_the_one_before_used(directory: Path, damage: Callable[[Path], None]) -> None:
    save_all(directory, {1: None, 2: None})
    damage(largest_file(directory / "2" / "state"))
    with pytest.warns(UserWarning, match=r"checkpoint 2 is damaged .*; trying checkpoint 1 instead"):
        restored = Checkpoints(directory).restore(LIKE)
    assert restored.step == 1
    assert_same(restored.state, make_state(1))


def test_no_damage_to_any_single_file_yields_wrong_numbers(directory: Path) -> None:
    """Whatever file is flipped, cut or lost: the right newest state, or the right one before it."""
    expected = {step: {"w": jnp.linspace(0.0, step, 9999), "key": jax.random.key(step)} for step in (1, 2)}
    with Checkpoints(directory) as checkpoints:
        for step, state in expected.items():
            checkpoints.save(step, state, {"step": step})
    fallbacks = 0
    for path in [path for path in (directory / "2").rglob("*") if path.is_file()]:
        intact = path.read_bytes()
        for damage in (flip, truncate, Path.unlink):
            damage(path)
            reports: list[str] = []
            restored = Checkpoints(directory).restore(expected[1], "latest", reports.append)
            assert_same(restored.state, expected[restored.step])
            assert restored.record["step"] == restored.step
            assert len(reports) == (restored.step != 2), (path, damage)
            fallbacks += len(reports)
            path.write_bytes(intact)
    assert fallbacks >= 9


def test_record_altered_but_still_json_counts_as_damaged(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    path = directory / "2" / "record" / "metadata"
    path.write_text(path.read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.warns(UserWarning, match="record"):
        assert Checkpoints(directory).restore(LIKE).record["seed"] == 7


def test_all_damaged_says_what_was_tried_and_the_remedy(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    flip(largest_file(directory / "1"))
    truncate(largest_file(directory / "2"))
    with pytest.raises(CheckpointError, match=r"checkpoint 2 is damaged .*checkpoint 1 is damaged .*backup"):
        Checkpoints(directory).restore(LIKE, report=lambda _: None)


def test_a_chosen_step_is_never_replaced_by_another(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    assert Checkpoints(directory).restore(LIKE, 1).step == 1
    flip(largest_file(directory / "2"))
    with pytest.raises(CheckpointError, match="checkpoint 2 is damaged"):
        Checkpoints(directory).restore(LIKE, 2)
    with pytest.raises(CheckpointError, match=r"no checkpoint 5: choose one of \[1, 2\]"):
        Checkpoints(directory).restore(LIKE, 5)


def test_missing_directory_is_an_error_and_is_not_created(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="check the path"):
        Checkpoints(directory).restore(LIKE)
    assert not directory.exists()


def test_reading_changes_no_file(directory: Path) -> None:
    """A live run is evaluated from another process: neither its files nor its unfinished ones may be touched."""
    save_all(directory, {1: None, 2: None})
    (directory / "3.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    flip(largest_file(directory / "2"))
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.steps() == [1, 2]
        checkpoints.restore(LIKE, report=lambda _: None)
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


def test_another_network_is_told_apart_from_damage(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    with pytest.raises(CheckpointError) as caught:
        Checkpoints(directory).restore(jax.eval_shape(lambda: make_state(0, width=64)))
    message = str(caught.value)
    assert "checkpoint 2" in message
    assert "is intact" in message
    assert ".params['mlp/~/w'] is float32[120,120] in the checkpoint and float32[64,64] here" in message
    assert "Use the configuration it was saved with" in message


def test_missing_and_extra_leaves_are_named(directory: Path) -> None:
    save_all(directory, {1: None})
    with pytest.raises(CheckpointError, match=r"kl_coefficient'\] is float32\[2\] in the checkpoint and absent here"):
        Checkpoints(directory).restore(LIKE._replace(aux={k: v for k, v in LIKE.aux.items() if "key" in k}))
    with pytest.raises(CheckpointError, match=r"is absent in the checkpoint and float32\[\] here"):
        Checkpoints(directory).restore(LIKE._replace(aux=LIKE.aux | {"more": jax.ShapeDtypeStruct((), jnp.float32)}))


def test_other_format_version_is_not_called_damage(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metarl_jax.runs.snapshot.FORMAT_VERSION", 99)
    save_all(directory, {1: None})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="intact, but it has format 99"):
        Checkpoints(directory).restore(LIKE)


def test_save_keeps_the_values_of_its_moment(directory: Path) -> None:
    """Training donates its buffers to the next update while the save is still writing."""
    state = {"numpy": np.ones((600, 600), np.float32), "jax": jnp.ones((600, 600))}
    with Checkpoints(directory) as checkpoints:
        checkpoints.save(1, state, {})
        state["numpy"][:] = 2.0
        assert not any(np.shares_memory(take_snapshot(state).values[f"['{k}']"], np.asarray(state[k])) for k in state)
        jax.jit(lambda array: array * 2, donate_argnums=0)(state["jax"]).block_until_ready()
        assert state["jax"].is_deleted()
        restored = checkpoints.restore(jax.eval_shape(lambda: {k: jnp.zeros((600, 600)) for k in state})).state
    assert all((np.asarray(array) == 1.0).all() for array in restored.values())


def test_second_run_in_the_same_directory_is_refused(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    with Checkpoints(directory) as other, pytest.raises(CheckpointError, match="already holds checkpoints"):
        other.save(0, make_state(9), {})
    assert_same(Checkpoints(directory).restore(LIKE).state, make_state(2))


def test_going_on_after_a_damaged_newest_replaces_it_and_loses_nothing(directory: Path) -> None:
    save_all(directory, {1: None, 2: None})
    flip(largest_file(directory / "2"))
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.restore(LIKE, report=lambda _: None).step == 1
        checkpoints.save(1, make_state(1), {})
        checkpoints.save(2, make_state(20), {})
    assert_same(Checkpoints(directory).restore(LIKE).state, make_state(20))
    assert (directory / "superseded-2" / "state").is_dir()
    assert Checkpoints(directory).steps() == [1, 2]


def test_bad_arguments_are_refused_before_anything_is_written(directory: Path) -> None:
    with pytest.raises(Refusal, match="keep = 0: keep at least 1 checkpoint"):
        Checkpoints(directory, keep=0)
    with Checkpoints(directory) as checkpoints:
        with pytest.raises(Refusal, match="must be JSON"):
            checkpoints.save(1, make_state(1), {"array": np.ones(2)})
        with pytest.raises(Refusal, match="must be JSON"):
            checkpoints.save(1, make_state(1), {"loss": float("nan")})
        assert not directory.exists()
        checkpoints.save(2, make_state(2), {})
        with pytest.raises(Refusal, match="step = 1: step 2 was reached already; steps must grow"):
            checkpoints.save(1, make_state(1), {})


def test_failed_write_is_raised_not_swallowed(directory: Path) -> None:
    directory.parent.joinpath("checkpoints").write_text("a file where the directory should be")
    with Checkpoints(directory) as checkpoints, pytest.raises(CheckpointError, match="check free space"):
        checkpoints.save(1, make_state(1), {})


SAVE_FOR_EVER = """
import itertools, sys; from pathlib import Path; from test_checkpoint import Checkpoints, make_state
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    for step in itertools.count(1):
        checkpoints.save(step, make_state(step, 700), {"step": step})
"""


def test_kill_during_save_leaves_the_one_before_and_the_run_can_go_on(directory: Path) -> None:
    process = run_python(SAVE_FOR_EVER, directory)
    deadline = time.monotonic() + 60
    try:
        while not (len(Checkpoints(directory).steps()) >= 2 and list(directory.glob("*.orbax-checkpoint-tmp*"))):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.001)
    finally:
        process.kill()  # SIGKILL
        process.communicate()
    like = jax.eval_shape(lambda: make_state(0, 700))
    with Checkpoints(directory) as checkpoints:
        step = checkpoints.restore(like, report=pytest.fail).step
        state = checkpoints.restore(like, step).state
        assert_same(state, make_state(step, 700))
        (directory / f"{step + 5}.orbax-checkpoint-tmp").mkdir(exist_ok=True)
        checkpoints.save(step + 1, state, {})
    assert Checkpoints(directory).steps()[-1] == step + 1
    assert not list(directory.glob("*.orbax-checkpoint-tmp*"))


RESTORE_HERE = """
import jax, resource, sys; from pathlib import Path; from test_checkpoint import *
with Checkpoints(Path(sys.argv[1])) as checkpoints:
    state, step, _ = checkpoints.restore(LIKE, report=lambda sentence: None)
    assert_same(state, make_state(step))
    assert all(len(leaf.sharding.device_set) == 2 and leaf.is_fully_replicated for leaf in jax.tree.leaves(state))
    checkpoints.save(step + 1, jax.tree.map(lambda leaf: leaf, state), {})
print(step)
try:
    with Checkpoints(Path(sys.argv[1] + "-broken")) as checkpoints:
        checkpoints.save(1, state, {})
        checkpoints.wait()
        Path(sys.argv[1] + "-broken").rename(sys.argv[1] + "-gone")
        Path(sys.argv[1] + "-broken").write_text("in the way")
        checkpoints.save(2, state, {})
except CheckpointError as error:
    print("failed" if "check free space" in str(error) else error)
try:
    with Checkpoints(Path(sys.argv[1] + "-full")) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, -1))
        checkpoints.save(1, state, {})
except CheckpointError as error:
    print("full" if "check free space" in str(error) else error)
"""


def test_restore_on_two_devices_of_a_state_saved_on_one_without_noise(directory: Path) -> None:
    """Also protects the terminal: a damaged checkpoint, a restore, a save and failed saves print nothing of Orbax's.

    And the exit: after a failed save the process must end, not wait for Orbax's threads.
    """
    save_all(directory, {4: None, 5: None})
    truncate(largest_file(directory / "5"))
    process = run_python(RESTORE_HERE, directory, devices=2)
    try:
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (output, errors) == ("4\nfailed\nfull\n", "")
    assert_same(Checkpoints(directory).restore(LIKE).state, make_state(4))


ONE_OF_TWO_PROCESSES = """
import jax, sys; from pathlib import Path
rank = int(sys.argv[2])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[3]}", num_processes=2, process_id=rank)
from test_checkpoint import *
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
everywhere = NamedSharding(Mesh(np.array(jax.devices()), ("d",)), PartitionSpec())
place = lambda state: jax.device_put(state, everywhere)
directory = Path(sys.argv[1])
state = {"w": np.full((300, 300), 2.0, np.float32), "key": np.arange(2)}
like = jax.eval_shape(lambda: {"w": jnp.zeros((300, 300)), "key": jnp.zeros(2, int)})
state["key"] = state["key"].astype(like["key"].dtype)
with Checkpoints(directory) as checkpoints:
    for step in (1, 2):
        checkpoints.save(step, place({**state, "w": state["w"] * step}), {"step": step}, score=-step)
    checkpoints.wait()
    multihost_utils.sync_global_devices("saved")
if rank == 0:
    read = Checkpoints._read_values
    def fail_for_step_2(self, step, leaves):
        if step == 2:
            raise OSError("this process cannot read it")
        return read(self, step, leaves)
    Checkpoints._read_values = fail_for_step_2
with Checkpoints(directory) as checkpoints:
    reports = []
    restored = checkpoints.restore(like, report=reports.append)
    assert ("this process" if rank == 0 else "another process") in reports[0]
    assert restored.step == 1 and len(restored.state["w"].sharding.device_set) == 2
    assert (np.asarray(restored.state["w"]) == 2.0).all()
    checkpoints.save(2, restored.state, {"step": 2})
print("done")
"""


def test_two_processes_save_fall_back_together_and_go_on(directory: Path) -> None:
    """Where only one process cannot read the newest, both must take the one before it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [run_python(ONE_OF_TWO_PROCESSES, directory, rank, port) for rank in range(2)]
    try:
        for process in processes:
            output, errors = process.communicate(timeout=60)
            assert output.endswith("done\n"), errors
    finally:
        for process in processes:
            process.kill()
    item = json.loads((directory / "2" / "record" / "metadata").read_text())
    assert item["record"] == {"step": 2}
    dtypes = {"w": (jnp.float32, (300, 300)), "key": (jnp.int32, (2,))}
    like = {name: jax.ShapeDtypeStruct(shape, dtype) for name, (dtype, shape) in dtypes.items()}
    assert (np.asarray(Checkpoints(directory).restore(like).state["w"]) == 2.0).all()
