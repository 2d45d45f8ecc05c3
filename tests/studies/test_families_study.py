"""Families: the ends of adaptation of a short run, and a run for each family there is."""

from pathlib import Path

import pytest

from metarl_jax.studies.families import FAMILIES, measure
from metarl_jax.tasks import FAMILIES as ALL


def test_a_short_run_gives_the_ends_of_adaptation(played: list[list[str]], tmp_path: Path) -> None:
    result = measure("navigation_finn", tasks=8, runs=tmp_path)
    assert result["command"] == "metarl train configs/maml_navigation.yaml"
    assert result["trained"] == pytest.approx({"before": 1.0, "after": 5.0, "gain": 4.0, "gain_half_interval": 0.0})
    assert result["untrained"]["gain"] == pytest.approx(0.5)
    assert (result["updates"], result["env_steps"]) == (4, 2_000_000)
    assert played[1][1:4] == [str(tmp_path / "navigation_finn"), "--tasks", "8"]


def test_every_family_has_a_short_run_of_a_config_that_exists() -> None:
    assert set(FAMILIES) == set(ALL)
    configs = Path(__file__).parents[2] / "configs"
    assert all((configs / f"{config}.yaml").exists() for config, *_ in FAMILIES.values())
