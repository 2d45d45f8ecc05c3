"""Intervals: known cases, coverage, and equality with rliable, which draws runs within each task."""

import numpy as np
import pytest
from scipy import stats

from metarl_jax.ops.statistics import (
    half_interval,
    improvements,
    interquartile_mean,
    interval,
    iqm,
    mean,
    percentile_interval,
    performance_profile,
    ratio_of_means,
    resampled,
    standard_error,
)


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    values = np.random.default_rng(0).normal(size=(3, 10))
    np.testing.assert_allclose(iqm(values), stats.trim_mean(values, 0.25, axis=1))
    assert iqm([3.0, 1.0, 8.0]) == 4.0  # too few to leave any out
    assert np.isnan(iqm([1.0, 2.0, np.nan, 3.0]))
    np.testing.assert_allclose(interquartile_mean(values, 2)[0], stats.trim_mean(values, 0.25, axis=None))


def test_the_error_of_an_interquartile_mean_is_that_of_a_trimmed_mean() -> None:
    """Tukey and McLaughlin (1963): the Winsorised standard deviation over the share that is left and the root of n."""
    values = np.random.default_rng(0).standard_t(2, size=40)
    _, influence = interquartile_mean(values, 1)
    np.testing.assert_allclose(standard_error(influence, 1), stats.mstats.trimmed_stde(values, (0.25, 0.25)), rtol=0.02)


def test_of_many_scores_all_intervals_are_that_of_the_normal_distribution() -> None:
    scores = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    value, low, high = interval(scores)
    half = 1.96 * scores.std() / 20
    np.testing.assert_allclose([value, low, high], scores.mean() + np.array([0.0, -half, half]), atol=0.05 * half)
    np.testing.assert_allclose(half_interval(np.append(scores, np.nan)), half, rtol=0.01)


def test_of_few_scores_the_interval_is_students() -> None:
    scores = np.array([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])
    _, low, high = interval(scores, interquartile_mean)  # of three, all count
    expected = [stats.t.interval(0.95, 2, np.mean(row), stats.sem(row)) for row in scores]
    np.testing.assert_allclose(np.transpose([low, high]), expected)
    np.testing.assert_allclose(half_interval(scores), (high - low) / 2)


def test_a_skewed_sample_has_a_longer_end_where_its_tail_is() -> None:
    value, low, high = interval(np.random.default_rng(0).lognormal(size=20))
    assert high - value > 1.3 * (value - low)


def test_equal_scores_leave_no_doubt_and_a_single_one_leaves_all() -> None:
    assert interval(np.full(9, 2.0)) == (2.0, 2.0, 2.0)
    value, low, high = interval([2.0])
    assert value == 2.0
    assert np.isnan([low, high]).all()


def test_a_resample_that_holds_equal_scores_only_does_not_make_the_interval_infinite() -> None:
    value, low, high = interval([1.0, 1.0, 1.0, 1.0, 0.0])
    assert -3.0 < low < value < high < 3.0


def test_a_middle_half_of_equal_scores_does_not_hide_what_lies_outside() -> None:
    """Its interquartile mean has a standard error of zero, and resamples that differ from it."""
    value, low, high = interval([0.0, 1.0, 1.0, 5.0], interquartile_mean)
    assert 0.0 <= low < value == 1.0 < high <= 5.0


def test_seeds_and_tasks_are_drawn_as_wholes() -> None:
    """Tasks that differ leave doubt though all seeds agree on them, and seeds that differ though all tasks agree."""
    worth = np.random.default_rng(0).normal(size=12)
    alone = interval(worth, seed=3)
    for scores in (np.tile(worth, (5, 1)), np.tile(worth[:, None], (1, 5))):
        both = interval(scores, drawn=2, seed=3)
        np.testing.assert_allclose(both, alone, atol=0.1)
    drawn = resampled(np.arange(6).reshape(2, 3), 2, 50, seed=0)
    assert (np.diff(drawn, axis=1) % 3 == 0).all()  # rows, and columns, stay together


def test_a_ratio_of_means_pairs_what_belongs_together() -> None:
    whole = np.array([1.0, 5.0, 30.0, 2.0, 9.0])
    np.testing.assert_allclose(interval(np.stack([0.75 * whole, whole]), ratio_of_means), [0.75] * 3)
    generator = np.random.default_rng(0)
    whole = generator.uniform(1.0, 3.0, size=50)
    part = 0.5 * whole + 0.3 * generator.normal(size=50)
    value, influence = ratio_of_means(np.stack([part, whole]), 1)
    without = [np.delete(part, i).mean() / np.delete(whole, i).mean() for i in range(50)]  # the jackknife
    np.testing.assert_allclose(standard_error(influence, 1), np.std(without) * 49**0.5, rtol=0.02)
    assert value == part.mean() / whole.mean()


@pytest.mark.parametrize("draw", ["normal", "lognormal"])
def test_intervals_cover_more_than_percentiles_do(draw: str) -> None:
    generator = np.random.default_rng(0)
    scores = getattr(generator, draw)(size=(300, 10))
    truth = {"normal": 0.0, "lognormal": np.exp(0.5)}[draw]
    _, low, high = interval(scores, resamples=500)
    covered = np.mean((low <= truth) & (truth <= high))
    low, high = percentile_interval(np.moveaxis(mean(resampled(scores, 1, 500, 0), 1)[0], -1, 0))
    assert covered > np.mean((low <= truth) & (truth <= high)) + 0.02
    assert covered > {"normal": 0.93, "lognormal": 0.87}[draw]


def test_improvement_is_that_of_the_same_task() -> None:
    ours, theirs = np.array([[1.0, 10.0]]), np.array([[0.0, 20.0], [1.0, 5.0]])
    np.testing.assert_array_equal(improvements(ours, theirs), [[[1.0, 0.0], [0.5, 1.0]]])


# Agarwal et al. (2021), by their library rliable 1.2.0, whose older pandas the other packages do not share.

OURS, THEIRS = (
    (generator := np.random.default_rng(0)).normal(size=(5, 12)),
    generator.normal(0.4, size=(4, 12)).round(1),
)
THRESHOLDS = np.linspace(-2.0, 2.0, 5)
RESAMPLES = 200
RLIABLE = {
    "iqm": 0.059748168034993464,
    "interval": [-0.1683190181186746, 0.30233164966904835],
    "improvement": 0.375,
    "profile": [1.0, 0.9583333333333334, 0.5833333333333334, 0.2916666666666667, 0.08333333333333333],
}


def test_all_equals_what_rliable_computes() -> None:
    np.testing.assert_allclose(iqm(OURS.ravel()), RLIABLE["iqm"], atol=1e-6)
    np.testing.assert_allclose(improvements(OURS, THEIRS).mean(), RLIABLE["improvement"], atol=1e-6)
    np.testing.assert_allclose(performance_profile(THEIRS, THRESHOLDS), RLIABLE["profile"], atol=1e-6)
    picks = np.random.RandomState(0)  # its resamples: runs within each task
    drawn = [OURS[picks.choice(5, OURS.shape), np.arange(12)] for _ in range(RESAMPLES)]
    ends = percentile_interval(interquartile_mean(np.array(drawn), 2)[0])
    np.testing.assert_allclose(ends, RLIABLE["interval"], atol=1e-6)


def test_rliable_computes_it_still() -> None:
    metrics = pytest.importorskip("rliable.metrics", reason="the extra 'rliable'")
    library = pytest.importorskip("rliable.library")
    np.random.seed(0)
    _, ends = library.get_interval_estimates(
        {"": OURS}, lambda scores: np.array([metrics.aggregate_iqm(scores)]), reps=RESAMPLES
    )
    computed = {
        "iqm": metrics.aggregate_iqm(OURS),
        "interval": ends[""][:, 0],
        "improvement": metrics.probability_of_improvement(OURS, THEIRS),
        "profile": library.score_distributions(THEIRS, THRESHOLDS),
    }
    for name, expected in RLIABLE.items():
        np.testing.assert_allclose(computed[name], expected, atol=1e-6)
