"""Gains: published numbers, pairing by task, tasks that were lost."""

import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.studies.gains import normalised_gain, paired_gain
from tests.studies.evaluations import MAML, ORACLE, evaluation, run


def test_published_returns_give_the_published_gain() -> None:
    gains, _, _ = normalised_gain(run(MAML)["evaluation"], evaluation(ORACLE))
    np.testing.assert_allclose([gains[1], gains[3]], [0.69, 0.73], atol=0.005)


def test_a_gain_is_that_of_each_task_by_itself() -> None:
    """Tasks of very different returns that gain 1 and 3: 2, give or take 12.7 standard errors (Student), here of 1."""
    mean, half = paired_gain({"per_task_return": [[0.0, 500.0], [1.0, 503.0]]})
    np.testing.assert_allclose([mean, half], [[0.0, 2.0], [0.0, 12.706]], rtol=1e-4)


def of_tasks(adapted: list[float | None], start: list[float], best: list[float], **settings: int) -> np.ndarray:
    ours = {"per_task_return": [adapted], "settings": {}, "random_initialisation": {"per_task_return": [start]}}
    return normalised_gain(ours, {"per_task_return": [best], "settings": settings})[:, 0]


def test_all_returns_of_a_task_are_drawn_together() -> None:
    """Every task covers three quarters of its way, however long that is: so does every resample."""
    start, way = np.array([-300.0, 5.0, 80.0, 1000.0]), np.array([900.0, 10.0, 1.0, 40.0])
    gain = of_tasks(list(start + 0.75 * way), list(start), list(start + way))
    np.testing.assert_allclose(gain, [0.75, 0.75, 0.75])


def test_of_many_tasks_the_interval_is_that_of_the_normal_distribution() -> None:
    generator = np.random.default_rng(1)
    adapted, zeros = 0.7 + 0.1 * generator.standard_normal(400), np.zeros(400)
    gain, low, high = of_tasks(list(adapted), list(zeros), list(zeros + 1.0))
    half = 1.96 * adapted.std() / 20
    np.testing.assert_allclose([gain, low, high], adapted.mean() + np.array([0.0, -half, half]), atol=0.05 * half)


def test_a_lost_task_is_left_out() -> None:
    whole = of_tasks([2.0, 3.0, 7.0], [0.0, 1.0, 2.0], [4.0, 4.0, 8.0])
    np.testing.assert_array_equal(of_tasks([2.0, None, 3.0, 7.0], [0.0, 9.0, 1.0, 2.0], [4.0, 9.0, 4.0, 8.0]), whole)
    assert np.isnan(of_tasks([None], [0.0], [1.0])).all()


def test_an_oracle_of_other_tasks_is_refused() -> None:
    with pytest.raises(Refusal, match="num_tasks, distribution, seed"):
        of_tasks([1.0], [0.0], [1.0], seed=5)
