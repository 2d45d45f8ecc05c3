"""Tables and pictures: every number is shown, pictures are files that open."""

from pathlib import Path

from matplotlib.image import imread
from rich.console import Console

from metarl_jax.report.tables import adaptation_table, milestones, plot_adaptation, plot_training

SUMMARY = {"mean_return": [-40.0, -11.25], "ci_low": [-42.5, -12.0], "ci_high": [-37.0, -10.0]}
EVALUATION = {
    "gradient_steps": [0, 1],
    **SUMMARY,
    "settings": {"distribution": "held_out", "num_tasks": 7, "episodes_per_task": 9, "adaptation": "gradient steps"},
    "random_initialisation": {**SUMMARY, "mean_return": [-80.0, -60.0]},
}


def test_table_shows_means_intervals_and_settings() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(adaptation_table(EVALUATION))
    printed = capture.get()
    for text in ("7 held-out tasks, 9 episodes", "-11.25 [-12.00, -10.00]", "-60.00", "95 % bootstrap"):
        assert text in printed
    beyond = {**EVALUATION, "settings": {**EVALUATION["settings"], "distribution": "beyond"}}
    with console.capture() as capture:
        console.print(adaptation_table(beyond))
    assert "7 tasks beyond the training distribution" in capture.get()
    few = {**EVALUATION, "settings": {**EVALUATION["settings"], "num_different_tasks": 2}}
    with console.capture() as capture:
        console.print(adaptation_table(few))
    assert "7 draws of the 2 training tasks" in capture.get()


def test_long_adaptation_is_shown_at_milestones_each_beside_its_own_number() -> None:
    means = [float(k) for k in range(61)]
    many = {"mean_return": means, "ci_low": means, "ci_high": means}
    console = Console(width=120)
    with console.capture() as capture:
        table = {**EVALUATION, **many, "gradient_steps": list(range(61)), "random_initialisation": many}
        console.print(adaptation_table(table))
    rows = [line.split("│")[1:3] for line in capture.get().splitlines() if "│" in line]
    shown = (0, 1, 2, 5, 10, 20, 50, 60)
    assert [(int(k), float(cell.split("[")[0])) for k, cell in rows] == [(k, float(k)) for k in shown]


def test_milestones_are_all_of_a_few_and_end_with_the_last_of_many() -> None:
    assert milestones(0) == [0]
    assert milestones(12) == list(range(13))
    assert milestones(13) == [0, 1, 2, 5, 10, 13]
    assert milestones(20) == [0, 1, 2, 5, 10, 20]
    assert milestones(1234)[-3:] == [500, 1000, 1234]


def test_table_shows_how_many_episodes_reach_a_goal() -> None:
    trained = {**EVALUATION, "success_rate": [0.0, 0.875]}
    random = {**EVALUATION["random_initialisation"], "success_rate": [0.0, 0.125]}
    console = Console(width=160)
    with console.capture() as capture:
        console.print(adaptation_table({**trained, "random_initialisation": random}))
        console.print(adaptation_table(EVALUATION))
    with_goal, without = capture.get().split("95 % bootstrap", 1)
    assert "88%" in with_goal
    assert "12%" in with_goal
    assert "success" not in without


def test_table_ends_with_the_total_of_a_trial() -> None:
    total = {"mean_return": -51.25, "ci_low": -54.0, "ci_high": -47.5}
    random = {**EVALUATION["random_initialisation"], "total": {**total, "mean_return": -140.0}}
    console = Console(width=120)
    with console.capture() as capture:
        console.print(adaptation_table({**EVALUATION, "total": total, "random_initialisation": random}))
    (row,) = [line for line in capture.get().splitlines() if "total" in line]
    assert "-51.25 [-54.00, -47.50]" in row
    assert "-140.00 [-54.00, -47.50]" in row


def test_table_shows_the_optimum_where_it_is_known() -> None:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(adaptation_table({**EVALUATION, "optimum": -9.875}))
        console.print(adaptation_table(EVALUATION))
    (row,) = [line for line in capture.get().splitlines() if "optimum" in line]
    assert "-9.88" in row


def test_pictures_open(tmp_path: Path) -> None:
    rows = [{"env_steps": i, "return_pre": None if i == 1 else -1.0, "return_post": 1.0} for i in range(3)]
    plot_adaptation(EVALUATION, tmp_path / "a.png", "title")
    plot_adaptation({**EVALUATION, "optimum": -5.0}, tmp_path / "optimum.png", "title")
    plot_training(rows, tmp_path / "t.png", "title")
    many = {name: numbers * 10 for name, numbers in SUMMARY.items()}
    long = {**EVALUATION, **many, "gradient_steps": list(range(20)), "random_initialisation": many}
    plot_adaptation(long, tmp_path / "long.png", "title")
    for name in ("a.png", "optimum.png", "long.png", "t.png"):
        assert imread(tmp_path / name).std() > 0.01  # not one colour
    assert (imread(tmp_path / "a.png") != imread(tmp_path / "optimum.png")).any()
