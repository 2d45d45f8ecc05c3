"""Health checks: each warns of its own trouble, once, and a healthy run hears nothing."""

import pytest

from metarl_jax.runs.health import WINDOW, HealthMonitor, bad_end
from metarl_jax.types import Adaptation

HEALTHY = {
    "return_pre": -40.0,
    "return_post": -12.0,
    "return_per_stage": [-40.0, -12.0],
    "skipped": 0.0,
    "outer_ratio_error": 1e-6,
    "policy_entropy": 1.4,
    "critic_explained_variance": 0.6,
    "step_fraction": 0.3,
    "outer_step_scale": 1.0,
    "episodes_dropped": 0,
}
EPISODES = 100  # of each of the two stages


def no_other_budget(*_):
    raise AssertionError("health asks for no other budget")


MAML = Adaptation("gradient step", 1, 2, no_other_budget, (0.1,))


def warnings(rows):
    monitor = HealthMonitor("walker_velocity", EPISODES, MAML)
    return [text for i, row in enumerate(rows) for text in monitor({"iteration": i + 1, **row})]


def test_a_healthy_run_hears_nothing():
    assert warnings([HEALTHY] * 3 * WINDOW) == []


@pytest.mark.parametrize(
    ("change", "first", "words"),
    [
        ({"skipped": 1.0}, 1, "not finite"),
        ({"outer_ratio_error": 0.2}, 1, "every ratio must be 1"),
        ({"return_post": -40.001, "return_per_stage": [-40.0, -40.001]}, WINDOW, "adaptation changes nothing"),
        ({"critic_explained_variance": -0.1}, WINDOW, "with baseline: critic, raise optimizer.learning_rate"),
        ({"step_fraction": 0.0}, WINDOW, "line search rejected every step"),
        ({"episodes_dropped": 10}, 5, "walker_velocity failed in 5.0% of the episodes since iteration 1"),
        ({"episodes_dropped": 200, "return_pre": None}, 1, "Make its simulation safer (tasks.backend"),
        ({"outer_step_scale": 0.25}, WINDOW, "halved in each of the last 20 updates (now to 0.25 of their length)"),
    ],
)
def test_each_trouble_is_named_once_with_its_remedy(change, first, words):
    """At the first update where it can be told, and not again at every one after it."""
    (text,) = warnings([HEALTHY | change] * 3 * WINDOW)
    assert text.startswith(f"iteration {first}: ")
    assert words in text


def test_steps_that_are_halved_now_and_then_are_no_trouble():
    """One update of full length among the last twenty is enough."""
    rows = [HEALTHY | {"outer_step_scale": 0.5 if i % WINDOW else 1.0} for i in range(3 * WINDOW)]
    assert warnings(rows) == []


def test_one_episode_in_a_hundred_may_fail():
    """That is 2 of 200, at every update; and a first update with more is no share yet."""
    rows = [HEALTHY | {"episodes_dropped": 2 if i else 20} for i in range(WINDOW)]
    assert warnings([HEALTHY | {"episodes_dropped": 2}] * 3 * WINDOW) == []
    assert warnings(rows[:10]) == []


def test_an_update_that_is_skipped_is_not_blamed_on_the_environment():
    """What the environment breaks is left out, so that it is not the reason."""
    (text,) = warnings([HEALTHY | {"skipped": 1.0}])
    assert "left out and are not the reason" in text


def test_an_exploding_std_is_told_from_the_entropy():
    rows = [HEALTHY | {"policy_entropy": 1.0 + 0.5 * i} for i in range(12)]
    (text,) = warnings(rows)
    assert text.startswith("iteration 8: ")
    assert "entropy rose from 1 to 4.5 nats" in text


def test_missing_and_non_finite_metrics_are_no_trouble_of_their_own():
    """Reptile has no ratio, K = 0 has no adaptation, and what is not finite is written as None."""
    bare = {"return_pre": None, "return_post": None, "return_per_stage": [None], "policy_entropy": None}
    assert warnings([bare] * 2 * WINDOW) == []


def test_the_remedy_is_one_that_the_method_has() -> None:
    monitor = HealthMonitor("bandit_bernoulli", EPISODES, Adaptation("episode", 1, 2, no_other_budget))
    same = {"return_pre": -40.0, "return_post": -40.0, "return_per_stage": [-40.0, -40.0]}
    (warning,) = [text for i in range(WINDOW) for text in monitor({"iteration": i + 1, **same})]
    assert warning.endswith("more than one episode may be needed to learn from")


@pytest.mark.parametrize(("adaptation", "stages"), [(None, 1), (MAML, 2), (MAML._replace(stages_per_update=10), 10)])
def test_the_share_of_dropped_episodes_is_of_the_stages_that_the_method_declares(adaptation, stages) -> None:
    """Not of those that a row happens to have: here one, and none where every episode was dropped."""
    warned = []
    for share in (0.009, 0.011):
        monitor = HealthMonitor("ant_goal", 1000, adaptation)
        row = {"return_per_stage": [1.0], "episodes_dropped": round(share * 1000 * stages)}
        warned.append([text for i in range(WINDOW) for text in monitor({"iteration": i + 1, **row})])
    assert warned[0] == []
    assert "ant_goal failed in 1.1% of the episodes" in warned[1][0]


LOST = HEALTHY | {"return_post": None, "skipped": 1.0}


def of_run(*rows):
    return [{"iteration": i + 1, **row} for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], None),
        ([HEALTHY] * 60, None),
        ([LOST] * 30 + [HEALTHY] * 20, None),  # it has recovered
        ([HEALTHY] * 40 + [LOST] * 11, "diverged: 11 of the last 20 updates were not finite and changed nothing"),
        ([HEALTHY] * 2 + [LOST] * 2, None),
        ([LOST], "diverged: 1 of the last 1 updates were not finite and changed nothing"),
        (
            [HEALTHY] + [HEALTHY | {"return_post": -90.0}] * 40,
            "worse than at first: the return ended at -90 and began at -40",
        ),
        ([HEALTHY] + [HEALTHY | {"return_post": -90.0}] * 3, None),  # too few to tell
        ([HEALTHY] + [HEALTHY | {"return_pre": -40.0 + 10 * (-1) ** i, "return_post": -45.0} for i in range(40)], None),
    ],
)
def test_a_run_that_went_wrong_is_told_by_its_end(rows, says):
    assert bad_end(of_run(*rows)) == says
