"""Stages: the largest number of steps that all have, at the checkpoints nearest to it."""

from pathlib import Path

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.studies.compare.sources import methods_in
from metarl_jax.studies.compare.stages import cut
from tests.comparisons import MAML, ORACLE, config_of, write_run

FOMAML = {"algorithm": {"name": "fomaml"}}


def runs_with(folder: Path, maml: dict[int, int], fomaml: dict[int, int]) -> list[Path]:
    return [write_run(folder / "a", config_of(MAML), maml), write_run(folder / "b", config_of(FOMAML), fomaml)]


def test_an_oracle_shortens_nobody(tmp_path: Path) -> None:
    maml, _ = runs_with(tmp_path, {8: 800, 10: 1000}, {1: 100})
    found = cut(methods_in([write_run(tmp_path / "c", config_of(ORACLE), {5: 50, 10: 100}), maml]))
    assert found.env_steps == 1000
    assert [stages[3].env_steps for stages in found.stages.values()] == [100, 1000]
    assert cut(methods_in([tmp_path / "c"])).env_steps == 100


def test_all_are_cut_where_the_shortest_ends(tmp_path: Path) -> None:
    methods = methods_in(runs_with(tmp_path, {8: 800, 9: 900, 10: 1000, 20: 2000}, {5: 500, 20: 980}))
    found = cut(methods)
    assert found.env_steps == 980
    assert found.longer == ["maml"]
    stage = found.stages["maml"][3]
    assert (stage.iteration, stage.env_steps) == (10, 1000)
    assert [row["iteration"] for row in stage.rows] == [8, 9, 10]


def test_fewer_steps_may_be_asked_for(tmp_path: Path) -> None:
    found = cut(methods_in(runs_with(tmp_path, {5: 500, 10: 1000}, {5: 510, 10: 1020})), most=505.0)
    assert found.env_steps == 505
    assert [stages[3].iteration for stages in found.stages.values()] == [5, 5]


def test_a_run_without_a_checkpoint_there_is_refused(tmp_path: Path) -> None:
    methods = methods_in(runs_with(tmp_path, {18: 1800, 20: 2000}, {10: 1000}))
    with pytest.raises(Refusal, match=r"checkpoints at 1,800, 2,000 .* none near 1,000, .*keep_checkpoints"):
        cut(methods)


def test_steps_between_logged_rows_are_interpolated(tmp_path: Path) -> None:
    (run,) = [write_run(tmp_path / "a", config_of(MAML), {10: 1000, 20: 3000})]
    (run / "checkpoints" / "15").mkdir()
    stage = cut(methods_in([run]), most=2000).stages["maml"][3]
    assert (stage.iteration, stage.env_steps) == (15, 2000)


def test_a_checkpoint_before_the_first_logged_row_is_none_to_compare(tmp_path: Path) -> None:
    """Nothing is known of what training was like until then."""
    run = write_run(tmp_path / "a", config_of(MAML), {10: 1000, 20: 2000})
    (run / "checkpoints" / "5").mkdir()
    assert cut(methods_in([run]), most=1000).stages["maml"][3].iteration == 10
    with pytest.raises(Refusal, match="has checkpoints at 1,000, 2,000 environment steps only, none near 500"):
        cut(methods_in([run]), most=500)


def test_what_has_not_begun_is_refused(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", config_of(MAML), {})
    with pytest.raises(Refusal, match="has no checkpoint with metrics yet: continue it with metarl resume"):
        cut(methods_in([run]))
