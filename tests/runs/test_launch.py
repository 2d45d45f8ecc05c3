"""From configs to run directories: where runs live, and what a refusal leaves as it was."""

from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, ConfigError
from metarl_jax.runs.launch import Place, Work, choose_places, launch, of_length, prepare_program
from metarl_jax.runs.run import prepare_directory
from tests.helpers import tiny_config


def several(config: Config, folder: Path, how: str) -> tuple[Any, ...]:
    return config, "name", folder, range(2), how


def test_several_seeds_go_on_where_one_of_them_is(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(ConfigError, match="nothing to resume"), choose_places(*several(config, tmp_path, "resume")):
        pass
    with choose_places(*several(config, tmp_path, "either")) as places:
        assert places == [
            Place(tmp_path / "seed-0", False, tmp_path.name),
            Place(tmp_path / "seed-1", False, tmp_path.name),
        ]
    prepare_directory(tmp_path / "seed-1", config, False, False)
    for how, resume in {"resume": [False, True], "new": [False, False]}.items():
        with choose_places(*several(config, tmp_path, how)) as places:
            assert [place.resume for place in places] == resume


@pytest.mark.parametrize("how", ["new", "resume", "either"])
def test_several_seeds_do_not_live_in_a_single_run(tmp_path: Path, how: str) -> None:
    prepare_directory(tmp_path, tiny_config(), False, False)
    with (
        pytest.raises(ConfigError, match="holds a single run"),
        choose_places(*several(tiny_config(), tmp_path, how)),
    ):
        pass


def test_what_does_not_fit_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    prepare_directory(tmp_path, config, False, False)
    (tmp_path / "checkpoints").mkdir()
    before = sorted(tmp_path.iterdir())
    program = prepare_program([config], 1)
    monkeypatch.setattr("metarl_jax.runs.memory.usable_bytes", lambda devices: 1)
    work = Work([config], lambda: nullcontext([Place(tmp_path, False)]), overwrite=True)
    with pytest.raises(Refusal, match="an update needs"):
        launch(program, work, announce=print, progress=lambda _: nullcontext(print), warn=print)
    assert sorted(tmp_path.iterdir()) == before


def test_all_directories_are_claimed_before_a_run_is_deleted(tmp_path: Path) -> None:
    """The second of two holds something else: the first keeps its run."""
    configs = [tiny_config(seed=seed) for seed in range(2)]
    places = [Place(tmp_path / f"seed-{seed}", False) for seed in range(2)]
    prepare_directory(places[0].directory, configs[0], False, False)
    (places[0].directory / "checkpoints").mkdir()
    places[1].directory.mkdir()
    (places[1].directory / "thesis.tex").write_text("years of work")
    program = prepare_program(configs, 1)._replace(compile=lambda: None)
    with pytest.raises(ConfigError, match="is not a run"):
        launch(
            program,
            Work(configs, lambda: nullcontext(places), overwrite=True),
            announce=print,
            progress=lambda _: nullcontext(print),
            warn=print,
        )
    assert {path.name for path in places[0].directory.iterdir()} >= {"config.yaml", "checkpoints"}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_run_to_start_from_is_looked_for_before_anything_is_said_or_written(tmp_path: Path, overwrite: bool) -> None:
    config = tiny_config(training={"initial_run": str(tmp_path / "nosuch")})
    announced: list[object] = []
    with pytest.raises(ConfigError, match="nosuch': holds no run"):
        launch(
            prepare_program([config], 1),
            Work([config], lambda: nullcontext([Place(tmp_path / "run", False)]), overwrite),
            announce=lambda program, lanes: announced.append(lanes),
            progress=lambda _: nullcontext(print),
            warn=announced.append,
        )
    assert not announced
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", [None, range(2)])
@pytest.mark.parametrize("folder", [None, "mine/run"])
def test_a_refusal_after_the_directories_were_claimed_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range | None, folder: str | None
) -> None:
    """What there was stays: of a folder the empty one, of runs another one."""
    root = tmp_path / "runs"
    configs = [tiny_config(seed=seed, logging={"run_root": str(root)}) for seed in seeds or [0]]
    prepare_directory(tmp_path / "other", configs[0], False, False)
    (tmp_path / "mine").mkdir()
    before = sorted(tmp_path.rglob("*"))
    program = prepare_program(configs, 1)
    monkeypatch.setattr("metarl_jax.runs.memory.usable_bytes", lambda devices: 1)
    where = None if folder is None else tmp_path / folder
    announced: list[Path] = []
    for _ in range(2):
        with pytest.raises(Refusal, match="an update needs"):
            launch(
                program,
                Work(configs, partial(choose_places, configs[0], "name", where, seeds, "new")),
                announce=lambda program, lanes: announced.append(lanes[0].directory),
                progress=lambda _: nullcontext(print),
                warn=print,
            )
        assert sorted(tmp_path.rglob("*")) == before
    first = root / "name" if where is None else where
    assert announced == [first if seeds is None else first / "seed-0"] * 2


def test_a_directory_that_is_taken_leaves_the_others_of_its_kind_as_they_were(tmp_path: Path) -> None:
    configs = [tiny_config(seed=seed) for seed in range(2)]
    prepare_directory(tmp_path / "seed-1", configs[1], False, False)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match="already holds a run"):
        launch(
            prepare_program(configs, 1),
            Work(configs, partial(choose_places, *several(configs[0], tmp_path, "new"))),
            announce=print,
            progress=lambda _: nullcontext(print),
            warn=print,
        )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("env_steps", "updates"), [(None, 6), (1.0, 1), (240.0, 2), (290.0, 2), (310.0, 3)])
def test_environment_steps_are_updates_to_the_nearest(env_steps: float | None, updates: int) -> None:
    """An update takes 4 tasks x 3 episodes x 2 stages x 5 steps = 120."""
    config = tiny_config()
    work = of_length(Work([config, config], lambda: nullcontext([]), env_steps=env_steps), prepare_program([config], 1))
    assert [one.training.num_iterations for one in work.configs] == [updates, updates]
