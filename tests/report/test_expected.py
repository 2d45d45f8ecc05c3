"""What a good result of a shipped config is: as the committed results say, for runs of the same settings alone."""

from pathlib import Path

import pytest

from metarl_jax.config import load_config
from metarl_jax.report.expected import expected_table, find_expected, read_expected, write_expected
from metarl_jax.studies.expected import expected
from metarl_jax.studies.results import read
from tests.helpers import printed

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def test_what_is_shipped_is_what_the_committed_results_say() -> None:
    """If this fails, give ``python benchmarks/expected.py`` again."""
    assert read_expected() == expected(RESULTS)


def test_the_numbers_are_those_of_the_seeds() -> None:
    told = read_expected()["quickstart"]
    runs = [run["evaluation"]["mean_return"] for run in read(RESULTS / "quickstart.json")["seeds"]]
    assert (told.seeds, told.iterations) == (len(runs), load_config("quickstart").training.num_iterations)
    for name, mean, low, high, _ in told.rows:
        at = [run[int(name)] for run in runs]
        assert (mean, low, high) == pytest.approx((sum(at) / len(at), min(at), max(at)), abs=1e-3)


def test_updates_are_counted_where_the_last_point_of_a_curve_stands_for_fewer() -> None:
    name = "rl2_half_cheetah_direction_squashed"
    assert read_expected()[name].iterations == load_config(name).training.num_iterations


def test_adaptation_is_counted_as_the_evaluation_counts_it() -> None:
    told = read_expected()
    assert {told[name].unit for name in ("quickstart", "maml_navigation_finn")} == {"gradient steps"}
    assert {told[name].unit for name in ("rl2_half_cheetah_velocity_state", "rl2_navigation")} == {"episodes seen"}


def test_results_of_changed_settings_and_of_runs_cut_short_are_left_out() -> None:
    assert "promp_half_cheetah_direction" not in read_expected()  # 240 of 1001 updates, with half of the tasks
    assert "rl2_tabular_mdp_gru" not in read_expected()
    assert read_expected()["rl2_tabular_mdp"].seeds == 2


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("seed=5", "maml_navigation"),
        ("logging.print_every=1", "maml_navigation"),
        ("evaluation.num_tasks=7", "maml_navigation"),
        ("evaluation.every=5", "maml_navigation"),
        ("evaluation.step_size_rule=constant", None),
        ("training.num_iterations=5", None),
        ("algorithm.inner_lr=0.3", None),
    ],
)
def test_only_a_run_with_the_same_settings_is_told(change: str, name: str | None) -> None:
    found = find_expected(load_config("maml_navigation", [change]))
    assert (found and found[0]) == name


def test_the_table_says_budget_and_spread() -> None:
    words = " ".join(printed(expected_table("maml_ant_direction", read_expected()["maml_ant_direction"]), 80).split())
    assert "what maml_ant_direction came to (1 seed, 100 iterations, 8M environment steps)" in words
    assert "[95 % interval over tasks]; 40 draws of the 2 training tasks, latest checkpoint" in words
    assert "[lowest, highest] over seeds" in printed(expected_table("x", read_expected()["quickstart"]))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    some = {name: told for name, told in read_expected().items() if name.startswith("rl2")}
    write_expected(some, tmp_path / "some.json")
    assert read_expected(tmp_path / "some.json") == some
