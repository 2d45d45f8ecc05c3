"""Methods: each by its config on fresh tasks, its cost per step measured once."""

from pathlib import Path

from metarl_jax.studies.methods import METHODS, cost, measure


def test_a_method_is_trained_by_its_config_and_tested_on_fresh_tasks(played: list[list[str]], tmp_path: Path) -> None:
    result = measure("oracle", seeds=[4], tasks=9, runs=tmp_path)
    assert result["config"] == METHODS["oracle"]
    assert result["runs"][0]["mean_return"] == [1.0, 3.0, 4.0, 5.0]
    benchmark, train, evaluate = played
    assert benchmark == ["benchmark", *METHODS["oracle"], "--json"]
    assert train[:5] == ["train", *METHODS["oracle"], "seed=4"]
    assert evaluate[1:8] == [str(tmp_path / "oracle_seed4"), "--tasks", "9", "--steps", "3", "--seed", "2026"]


def test_a_cost_is_per_million_computed_steps_and_measured_once(played: list[list[str]], tmp_path: Path) -> None:
    """Three CPU seconds of half a million steps; the config has not changed the second time."""
    expected = {"total": 6.0, "outer": 2.0, "temporary_bytes": 2**20}
    assert cost("maml", tmp_path) == cost("maml", tmp_path) == expected
    assert len(played) == 1
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace('"computed_', '"older_'))
    assert cost("maml", tmp_path)["total"] == 12.0


def test_every_method_has_a_config() -> None:
    assert all((Path(__file__).parents[2] / config).exists() for config, *_ in METHODS.values())
