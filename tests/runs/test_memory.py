"""What memory there is, what a program needs of it, and the refusal of one that needs more."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import config_from_dict
from metarl_jax.runs import memory
from metarl_jax.runs.build import build
from metarl_jax.runs.evaluation import evaluate
from metarl_jax.runs.memory import (
    compile_fitting,
    evaluation_remedy,
    fitting_evaluation,
    host_bytes,
    in_words,
    kept_bytes,
    memory_of,
    process_bytes,
    refuse_too_large,
    remedy,
    usable_bytes,
)
from metarl_jax.runs.program import Program, _lanes_apart, _tasks_shared, make_program
from metarl_jax.runs.run import Run, prepare_directory, prepared
from metarl_jax.runs.training import Lane, train, train_lanes
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import TINY, tiny_config


def compiled(temporary: int) -> Any:
    """What answers like a compiled program."""
    stats = SimpleNamespace(
        argument_size_in_bytes=10,
        output_size_in_bytes=12,
        alias_size_in_bytes=2,
        temp_size_in_bytes=temporary,
        generated_code_size_in_bytes=5,
    )
    return SimpleNamespace(memory_analysis=lambda: stats)


def test_a_program_needs_what_xla_planned() -> None:
    needed = memory_of(compiled(100))
    assert needed is not None
    assert tuple(needed) == (10, 10, 100, 5)
    assert needed.total == 125
    assert memory_of(SimpleNamespace(memory_analysis=lambda: None)) is None


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8192 * 1024),
        ({"memory.max": "max\n"}, 8192 * 1024),
        ({"memory.max": "4096\n"}, 4096),
        ({"memory/memory.limit_in_bytes": "5000"}, 5000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712"}, 8192 * 1024),
    ],
)
def test_the_host_has_its_memory_or_its_groups(tmp_path: Path, files: dict[str, str], expected: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:        8192 kB\nMemFree:         4096 kB\n")
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert host_bytes(meminfo, tmp_path) == expected
    assert host_bytes(tmp_path / "none", tmp_path / "none") is None


def test_devices_of_a_cpu_share_what_the_process_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "host_bytes", lambda: 1000)
    monkeypatch.setattr(memory, "process_bytes", lambda: 400)
    assert usable_bytes(jax.devices()[:1] * 2) == 300
    elsewhere: Any = SimpleNamespace(process_index=1)
    assert usable_bytes([*jax.devices()[:1], elsewhere]) == 600  # on another host
    with monkeypatch.context() as here:
        here.setattr(memory, "processes_here", lambda: 2)
        assert usable_bytes([*jax.devices()[:1], elsewhere]) == 100
    monkeypatch.setattr(memory, "host_bytes", lambda: None)
    assert usable_bytes(jax.devices()[:1]) is None


def test_an_accelerator_tells_itself() -> None:
    device: Any = SimpleNamespace(platform="gpu", process_index=0, memory_stats=lambda: {"bytes_limit": 7})
    assert usable_bytes([device]) == 7
    silent: Any = SimpleNamespace(platform="tpu", process_index=0, memory_stats=lambda: None)
    assert usable_bytes([silent]) is None


def test_this_process_takes_memory() -> None:
    assert 2**20 < process_bytes() < 2**40
    assert process_bytes(Path("/nowhere")) == 0


def test_too_large_a_program_is_refused_with_the_keys_that_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda devices: 2**24)
    experiment, devices = build(tiny_config()), jax.devices()[:1]
    refuse_too_large(compiled(2**24 - 25), experiment, devices)
    message = (
        r"training.meta_batch_size = 4: an update needs 16.0 MiB of memory on each device, and 16.0 MiB can be had; "
        r"set algorithm.remat=auto algorithm.task_chunk=auto \(the trajectories alone take .* MiB\), or lower training"
    )
    with pytest.raises(Refusal, match=message):
        refuse_too_large(compiled(2**24), experiment, devices)
    saving = build(tiny_config(algorithm={"remat": True, "task_chunk": 1}))
    with pytest.raises(Refusal, match=r"can be had; lower training.meta_batch_size, training.episodes_per_task or"):
        refuse_too_large(compiled(2**24), saving, devices)


def test_training_that_cannot_fit_is_refused_and_leaves_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = config_from_dict(TINY | {"algorithm": {"name": "reptile"}})
    monkeypatch.setattr(memory, "usable_bytes", lambda devices: 100)
    with (
        pytest.raises(Refusal, match=r"training.meta_batch_size = 4: an update needs"),
        prepared(tmp_path / "run", config, False, False),
    ):
        train(build(config), tmp_path / "run", devices=jax.devices()[:1])
    prepare_directory(tmp_path / "run", config, False, False)  # it is free


def test_what_cannot_fit_on_one_process_is_refused_on_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those that share the program are asked: one that evaluates on its own waits for nobody."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(memory, "processes_here", lambda: 1)
    asked: list[bool] = []

    def together(action: Callable[[], None]) -> None:
        asked.append(True)
        action()

    def refuse(made: str) -> None:
        if made == "too large":
            raise Refusal("size", made, "lower it")

    monkeypatch.setattr(memory, "together", together)
    large, small = (SimpleNamespace(compile=lambda size=size: size) for size in ("too large", "small"))
    ours, shared = ([SimpleNamespace(process_index=number) for number in numbers] for numbers in ([0], [0, 1]))
    for devices in (ours, shared):
        with pytest.raises(Refusal, match="size = 'too large': lower it"):
            compile_fitting("program", lambda: large, refuse, devices)
        assert compile_fitting("program", lambda: small, refuse, devices) == "program"  # it takes what is ours
        assert len(asked) == (2 if devices is shared else 0)


def test_one_of_several_processes_refuses_an_update_and_an_evaluation_before_either_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There pmap lowers no shapes, and the mapped functions are called, not what was compiled."""

    def pmap(function: Any, **options: Any) -> Any:
        def lower(*arguments: Any) -> Any:
            assert all(isinstance(leaf, np.ndarray | np.generic | jax.Array) for leaf in jax.tree.leaves(arguments))
            lowered.append(function.func.__name__)
            return SimpleNamespace(compile=lambda: compiled(2**24))

        return SimpleNamespace(lower=lower)

    evaluation = {"every": 2, "num_tasks": 3, "num_inner_steps": 0}
    config = config_from_dict(TINY | {"algorithm": {"name": "reptile"}, "evaluation": evaluation})
    lowered: list[str] = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "pmap", pmap)
    program = _tasks_shared(build(config), jax.devices()[:1])
    placed = program.place([program.initial_state(config)])
    verdicts = iter([100, None, 100, None, None])  # of updates, and of evaluations after those that fit
    monkeypatch.setattr(memory, "_exceeded", lambda made, devices, beside=0: next(verdicts))
    with pytest.raises(Refusal, match=r"training.meta_batch_size = 4: an update needs .* can be had; "):
        program.run(placed, [config], [2])
    with pytest.raises(
        Refusal, match=r"evaluation.num_tasks = 3: an evaluation, with the training state, needs .* can be had; "
    ):
        program.compile()
    assert program.compile() is program.compile() is program.mapped
    assert lowered == ["_updates", "_updates", "_monitor", "_updates", "_monitor"]


def test_an_evaluation_that_cannot_fit_is_refused_before_it_runs_and_compiled_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "usable_bytes", lambda devices: 2**24)
    sizes, calls = iter((2**24, 2**24 - 25)), []

    class Compiled(SimpleNamespace):
        def __call__(self, x: float) -> None:
            calls.append(x)

    def lower(x: float) -> Any:
        return SimpleNamespace(compile=lambda: Compiled(**vars(compiled(next(sizes)))))

    experiment, devices = build(tiny_config(algorithm={"task_chunk": 4})), jax.devices()[:1]
    settings = experiment.config.evaluation.model_dump()
    call = fitting_evaluation(SimpleNamespace(lower=lower), experiment, settings, devices)
    message = (
        r"evaluation.num_tasks = 3: an evaluation needs 16.0 MiB of memory on each device, and 16.0 MiB can be had"
    )
    with pytest.raises(Refusal, match=f"{message}; lower evaluation.episodes_per_task"):
        call(1.0)
    assert not calls
    call(2.0)
    call(3.0)  # a third program there is not
    assert calls == [2.0, 3.0]
    call.compile(jax.ShapeDtypeStruct((), "float32"))  # nor is there one of a shape
    sizes = iter((2**24 - 25, 2**24 - 45))
    beside = fitting_evaluation(SimpleNamespace(lower=lower), experiment, settings, devices, beside=20)
    with pytest.raises(Refusal, match=r"an evaluation, with the training state, needs 16\.0 MiB"):
        beside(1.0)
    beside(4.0)
    assert calls[-1] == 4.0


@pytest.mark.parametrize(
    ("at_once", "validation", "words"),
    [
        (
            None,
            None,
            "lower evaluation.num_tasks or evaluation.episodes_per_task, or train with algorithm.task_chunk=1",
        ),
        (1, 5, "lower evaluation.episodes_per_task"),
        (
            4,
            5,
            "lower evaluation.episodes_per_task or evaluation.num_tasks or evaluation.validation_tasks, or train with "
            "algorithm.task_chunk=1",
        ),
    ],
)
def test_the_keys_that_make_an_evaluation_smaller(at_once: int | None, validation: int | None, words: str) -> None:
    experiment = build(tiny_config())
    chunked = experiment._replace(algorithm=experiment.algorithm._replace(tasks_at_once=at_once))
    assert evaluation_remedy(chunked, {"validation_tasks": validation}, is_trained=False) == words


@pytest.mark.parametrize(
    ("at_once", "words"),
    [
        (None, "evaluation.num_tasks or evaluation.episodes_per_task (metarl evaluate --tasks, --episodes)"),
        (1, "evaluation.episodes_per_task (metarl evaluate --episodes)"),
        (4, "evaluation.episodes_per_task or evaluation.num_tasks (metarl evaluate --episodes, --tasks)"),
    ],
)
def test_an_evaluation_after_training_is_made_smaller_without_training_again(at_once: int | None, words: str) -> None:
    experiment = build(tiny_config())
    chunked = experiment._replace(algorithm=experiment.algorithm._replace(tasks_at_once=at_once))
    assert evaluation_remedy(chunked, {}, is_trained=True) == f"lower {words}"


def test_evaluations_of_both_kinds_are_held_to_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = TINY | {"algorithm": {"name": "reptile"}, "evaluation": {"num_inner_steps": 0}}
    experiment = build(config_from_dict(quick))
    params, config = experiment.policy.init(jax.random.key(0)), experiment.config
    monkeypatch.setattr(memory, "usable_bytes", lambda devices: 100)
    with pytest.raises(Refusal, match=r"evaluation.num_tasks = \d+: an evaluation needs.* \(metarl evaluate --"):
        evaluate(Run(*experiment[:4], params, iteration=0))
    program = make_program(experiment, jax.devices()[:1])
    placed = program.place([program.initial_state(config)])
    with pytest.raises(Refusal, match=r"evaluation.num_tasks = \d+: an evaluation, with the training state, needs"):
        program.evaluate(placed, [config])


@pytest.mark.parametrize("make", [_tasks_shared, partial(_lanes_apart, per_device=2)])
def test_an_evaluation_while_training_is_refused_before_the_first_update(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make: Callable[..., Program]
) -> None:
    """Not when it is due: by then there are updates, and no checkpoint or one that meets the same refusal again."""
    evaluation = {"every": 4, "num_tasks": 3, "num_inner_steps": 0}
    config = config_from_dict(TINY | {"algorithm": {"name": "reptile"}, "evaluation": evaluation})
    program, lane = make(build(config), jax.devices()[:1]), Lane(config, tmp_path / "run")
    verdicts = iter([None, 100, None, None])  # of an update and an evaluation, twice
    monkeypatch.setattr(memory, "_exceeded", lambda made, devices, beside=0: next(verdicts))
    message = r"evaluation.num_tasks = 3: an evaluation, with the training state, needs .*, or train with"
    with pytest.raises(Refusal, match=message), prepared(lane.directory, config, False, False):
        train_lanes(program, [lane])
    prepare_directory(lane.directory, config, False, False)  # it is free
    (result,) = train_lanes(program, [lane])  # a third program there is not
    assert result.finished
    assert [row["iteration"] for row in read_metrics(lane.directory) if "evaluation_return_post" in row] == [4]


def test_sizes_in_words() -> None:
    assert (in_words(2**30), in_words(2**30 - 2**20)) == ("1.0 GiB", "1023.0 MiB")


def test_a_replay_is_counted_and_what_makes_it_smaller_is_named() -> None:
    """Of 4 x 3 trials of two episodes of 5 steps: 11 times 2 numbers seen, 2 done, 2 more; 10 that count them."""
    algorithm = {"name": "varibad", "replay_updates": 7}
    experiment = build(config_from_dict(TINY | {"algorithm": algorithm, "policy": {"name": "belief"}}))
    replay = 4 * (4 * 3) * 7 * (11 * 6 + 10)
    assert [kept_bytes(experiment, devices) for devices in (1, 2)] == [replay, replay // 2]
    assert kept_bytes(build(config_from_dict(TINY)), 1) == 0
    assert remedy(experiment, 1, replay).startswith("lower algorithm.replay_updates (the replay alone takes twice ")
    assert "replay" not in remedy(experiment, 1, 3 * replay)
