"""Gains: published numbers, pairing by task, tasks that were lost."""

import numpy as np
import pytest
from scipy.stats import trim_mean

from metarl_jax.checks import Refusal
from metarl_jax.studies.statistics import iqm, iqm_interval, normalised_gain, paired_gain
from tests.studies.evaluations import MAML, ORACLE, evaluation, run


def test_published_returns_give_the_published_gain() -> None:
    gains, _, _ = normalised_gain(run(MAML)["evaluation"], evaluation(ORACLE))
    np.testing.assert_allclose([gains[1], gains[3]], [0.69, 0.73], atol=0.005)


def test_a_gain_is_that_of_each_task_by_itself() -> None:
    """Tasks of very different returns that gain 1 and 3: 2, give or take 1.96 standard errors, here of 1 each."""
    mean, half = paired_gain({"per_task_return": [[0.0, 500.0], [1.0, 503.0]]})
    np.testing.assert_allclose([mean, half], [[0.0, 2.0], [0.0, 1.96]])


def of_tasks(adapted: list[float | None], start: list[float], best: list[float], **settings: int) -> np.ndarray:
    ours = {"per_task_return": [adapted], "settings": {}, "random_initialisation": {"per_task_return": [start]}}
    return normalised_gain(ours, {"per_task_return": [best], "settings": settings})[:, 0]


def test_all_returns_of_a_task_are_drawn_together() -> None:
    """Every task covers three quarters of its way, however long that is: so does every resample."""
    start, way = np.array([-300.0, 5.0, 80.0, 1000.0]), np.array([900.0, 10.0, 1.0, 40.0])
    gain = of_tasks(list(start + 0.75 * way), list(start), list(start + way))
    np.testing.assert_allclose(gain, [0.75, 0.75, 0.75])


def test_the_interval_holds_95_percent_of_the_resamples() -> None:
    """One of two tasks learns all, the other nothing: a quarter of the resamples are the one, a quarter the other."""
    np.testing.assert_array_equal(of_tasks([0.0, 1.0], [0.0, 0.0], [1.0, 1.0]), [0.5, 0.0, 1.0])


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


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = np.random.default_rng(0).normal(size=(3, 10))
    np.testing.assert_allclose(iqm(values), trim_mean(values, 0.25, axis=1))  # as rliable computes it
    assert iqm([3.0, 1.0, 8.0]) == 4.0  # too few to leave any out
    assert np.isnan(iqm([1.0, 2.0, np.nan, 3.0]))


def test_seeds_are_drawn_within_each_stratum() -> None:
    """Strata that differ leave no doubt if their seeds agree; seeds that differ do, at each point of a curve alone."""
    certain = np.array([[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]])
    assert [end.item() for end in iqm_interval(certain)] == [5.0, 5.0]
    curves = np.array([[[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]])  # one stratum, three seeds, two points
    low, high = iqm_interval(curves)
    np.testing.assert_allclose([low, high], [[1.0, 5.0], [3.0, 5.0]], atol=0.35)
