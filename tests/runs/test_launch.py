"""From configs to run directories: where runs live, and what a refusal leaves as it was."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import ConfigError
from metarl_jax.runs.launch import Place, Work, choose_places, launch, of_length, prepare_program
from metarl_jax.runs.run import prepare_directory
from tests.helpers import tiny_config


def test_several_seeds_go_on_where_one_of_them_is(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(ConfigError, match="nothing to resume"):
        choose_places(config, "name", tmp_path, range(2), "resume")
    assert choose_places(config, "name", tmp_path, range(2), "either") == [
        Place(tmp_path / "seed-0", False),
        Place(tmp_path / "seed-1", False),
    ]
    prepare_directory(tmp_path / "seed-1", config, False, False)
    assert [place.resume for place in choose_places(config, "name", tmp_path, range(2), "resume")] == [False, True]
    assert [place.resume for place in choose_places(config, "name", tmp_path, range(2), "new")] == [False, False]


@pytest.mark.parametrize("how", ["new", "resume", "either"])
def test_several_seeds_do_not_live_in_a_single_run(tmp_path: Path, how: str) -> None:
    prepare_directory(tmp_path, tiny_config(), False, False)
    with pytest.raises(ConfigError, match="holds a single run"):
        choose_places(tiny_config(), "name", tmp_path, range(2), how)  # type: ignore[arg-type]


def test_what_does_not_fit_deletes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    prepare_directory(tmp_path, config, False, False)
    (tmp_path / "checkpoints").mkdir()
    before = sorted(tmp_path.iterdir())
    program = prepare_program([config], 1)
    monkeypatch.setattr("metarl_jax.runs.memory.usable_bytes", lambda devices: 1)
    work = Work([config], lambda: [Place(tmp_path, False)], overwrite=True)
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
            Work(configs, lambda: places, overwrite=True),
            announce=print,
            progress=lambda _: nullcontext(print),
            warn=print,
        )
    assert {path.name for path in places[0].directory.iterdir()} >= {"config.yaml", "checkpoints"}


@pytest.mark.parametrize(("env_steps", "updates"), [(None, 6), (1.0, 1), (240.0, 2), (290.0, 2), (310.0, 3)])
def test_environment_steps_are_updates_to_the_nearest(env_steps: float | None, updates: int) -> None:
    """An update takes 4 tasks x 3 episodes x 2 stages x 5 steps = 120."""
    config = tiny_config()
    work = of_length(Work([config, config], list, env_steps=env_steps), prepare_program([config], 1))
    assert [one.training.num_iterations for one in work.configs] == [updates, updates]
