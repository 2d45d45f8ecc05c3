"""Meta-testing: the right tasks, step sizes and statistics."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import by_mode, rollout
from metarl_jax.config import Config, ConfigError, config_from_dict
from metarl_jax.networks.memory import cells
from metarl_jax.ops.statistics import half_interval
from metarl_jax.report.tables import adaptation_table
from metarl_jax.runs.build import build, declared_adaptation
from metarl_jax.runs.evaluation import _bayes_optimum, _sharing, evaluate, mean_over_episodes, summarize
from metarl_jax.runs.run import Run
from metarl_jax.tasks.discrete.grid_navi import grid_navi
from metarl_jax.types import Array, Key, MetaAlgorithm, Params
from tests.helpers import tiny_config


def measure(config: Config, params: Params, **settings: Any) -> dict[str, Any]:
    return evaluate(Run(*build(config)[:4], params, iteration=0), **settings)


@pytest.fixture(scope="module")
def params() -> dict:
    return build(tiny_config()).policy.init(jax.random.key(0))


def test_shapes_and_fields(params: dict) -> None:
    result = measure(tiny_config(), params)
    assert "total" not in result, "gradient steps do not add up"
    assert result["gradient_steps"] == [0, 1, 2]
    for summary in (result, result["random_initialisation"]):
        assert np.shape(summary["per_task_return"]) == (3, 3)
        np.testing.assert_allclose(np.mean(summary["per_task_return"], axis=1), summary["mean_return"], rtol=1e-6)
        assert all(
            low <= mean <= high
            for low, mean, high in zip(summary["ci_low"], summary["mean_return"], summary["ci_high"], strict=True)
        )


def test_same_seed_same_numbers_other_seed_other_tasks(params: dict) -> None:
    first, again = (measure(tiny_config(), params, num_inner_steps=0) for _ in range(2))
    other = measure(tiny_config(), params, num_inner_steps=0, seed=1)
    assert first == again
    assert first["per_task_return"] != other["per_task_return"]


def test_tasks_beyond_the_training_distribution_are_harder() -> None:
    """Goals farther away than any of training give a lower return; a family without such tasks says so."""
    config = config_from_dict({"tasks": {"name": "navigation_finn", "horizon": 5}, "algorithm": {"name": "maml"}})
    params = build(config).policy.init(jax.random.key(0))
    few = {"num_tasks": 20, "num_inner_steps": 0, "episodes_per_task": 3}
    held_out, beyond = (measure(config, params, distribution=name, **few) for name in ("held_out", "beyond"))
    assert beyond["settings"]["distribution"] == "beyond"
    assert beyond["mean_return"][0] < held_out["mean_return"][0] - 0.5
    corner = config_from_dict({"tasks": {"name": "navigation_corner"}, "algorithm": {"name": "maml"}})
    with pytest.raises(
        ValueError, match=r"^evaluation\.distribution = 'beyond': navigation_corner has no such tasks; use 'held_out'"
    ):
        measure(corner, params, distribution="beyond", **few)
    with pytest.raises(ValueError, match="distribution = 'Beyond': must be one of held_out, beyond"):
        measure(config, params, distribution="Beyond", **few)


@pytest.mark.slow
def test_success_is_an_episode_that_ended_at_the_goal() -> None:
    """Some random walks meet the goal by chance; families that do not end at a goal have no rate."""
    config = config_from_dict({"tasks": {"name": "navigation_finn", "horizon": 100}, "algorithm": {"name": "maml"}})
    params = build(config).policy.init(jax.random.key(0))
    few = {"num_tasks": 40, "num_inner_steps": 1, "episodes_per_task": 20}
    result = measure(config, params, **few)
    assert len(result["success_rate"]) == 2
    assert 0.0 < result["success_rate"][0] < 0.5
    assert result["random_initialisation"]["success_rate"] != result["success_rate"]
    still = jax.tree.map(jnp.zeros_like, params) | {"log_std": jnp.full(2, -20.0)}
    assert measure(config, still, **few)["success_rate"][0] == 0.0  # no goal is drawn so near to the start
    corner = config_from_dict({"tasks": {"name": "navigation_corner"}, "algorithm": {"name": "maml"}})
    assert "success_rate" not in measure(corner, params, **few)


def test_success_as_the_family_measures_it() -> None:
    """By a function of the task and the state, which the method reports, or else says nothing of."""
    info = {"return": jnp.ones((1, 4)), "dropped": jnp.array([[False, False, False, True]])}
    success = {"success": jnp.array([[True, False, False, True]])}

    def found(info: dict[str, Any]) -> Any:
        algorithm = build(tiny_config()).algorithm._replace(adapt=lambda *_: (None, info))
        return mean_over_episodes(algorithm, lambda task, state: jnp.array(True), (jnp.zeros(1),))

    np.testing.assert_allclose(found(info | success)["success"], [[1 / 3]])
    with pytest.raises(Refusal, match="the method has to report 'success', which the family measures"):
        found(info)


def test_a_method_that_declares_no_adaptation_is_refused() -> None:
    run = Run(*build(tiny_config())[:4], {}, iteration=0)
    with pytest.raises(ConfigError, match=r"algorithm.name = 'promp': it declares no adaptation.*adaptation="):
        evaluate(run._replace(algorithm=run.algorithm._replace(adaptation=None)))


def test_zero_step_size_changes_nothing_but_the_noise(params: dict) -> None:
    """With a step size of 0 the return after adaptation is another sample of the return before it."""
    config = tiny_config(algorithm={"inner_lr": 0.0})
    result = measure(config, params, num_inner_steps=1, episodes_per_task=200)
    before, after = np.array(result["per_task_return"])
    np.testing.assert_allclose(before, after, atol=0.1)


def test_pretraining_can_be_evaluated_without_any_step() -> None:
    """As an oracle is: it has nothing to find out."""
    config = config_from_dict(
        {"tasks": {"name": "navigation_corner", "horizon": 5}, "algorithm": {"name": "pretraining"}}
    )
    params = build(config).policy.init(jax.random.key(0))
    result = measure(config, params, num_tasks=3, num_inner_steps=0, episodes_per_task=2)
    assert np.isfinite(result["mean_return"]).all()
    assert result["gradient_steps"] == [0]


def test_bootstrap_interval_matches_the_normal_one() -> None:
    returns = np.random.default_rng(0).normal(3.0, 2.0, size=(1, 400))
    summary = summarize(returns, seed=0)
    half_width = 1.96 * returns.std(ddof=1) / 20
    np.testing.assert_allclose(summary["ci_low"], returns.mean() - half_width, atol=0.03)
    np.testing.assert_allclose(summary["ci_high"], returns.mean() + half_width, atol=0.03)


def test_episodes_in_which_the_environment_failed_are_left_out() -> None:
    """Of returns and of successes; a task that lost all of them is NaN and known by its count."""
    info = {
        "return": jnp.array([[1.0, 5.0, jnp.nan], [9.0, 9.0, 9.0]]),
        "terminated": jnp.array([[True, False, False], [True, True, True]]),
        "dropped": jnp.array([[False, False, True], [True, True, True]]),
    }
    experiment = build(tiny_config())
    algorithm = MetaAlgorithm(experiment.algorithm.init, lambda *_: (None, info), experiment.algorithm.update)
    found = mean_over_episodes(algorithm, "termination", (jnp.zeros(1),))
    np.testing.assert_array_equal(found["return"], [[3.0, jnp.nan]])
    np.testing.assert_array_equal(found["success"], [[0.5, jnp.nan]])
    np.testing.assert_array_equal(found["dropped"], [[1, 3]])


def test_tasks_without_an_episode_are_left_out_of_the_means(params: dict) -> None:
    """The others' mean and interval are theirs alone, and without any left there is none; the table says how many."""
    returns = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    has_data = np.array([[True] * 5, [False, True, True, True, True], [False] * 5])
    summary = summarize(np.where(has_data, returns, np.nan), 0, has_data)
    alone = summarize(returns[1:2, 1:], 0)
    for name in ("mean_return", "ci_low", "ci_high"):
        assert summary[name][0] == summarize(returns, 0)[name][0]
        np.testing.assert_allclose(summary[name][1], alone[name][0], rtol=1e-12)
        assert np.isnan(summary[name][2])
    result = measure(tiny_config(), params, num_inner_steps=0)
    assert result["episodes_dropped"] == result["random_initialisation"]["episodes_dropped"] == 0
    assert "left out" not in str(adaptation_table(result).caption)
    assert "; 7 episodes in which" in str(adaptation_table({**result, "episodes_dropped": 7}).caption)


@pytest.mark.parametrize(("name", "value"), [("num_tasks", 0), ("num_inner_steps", -1), ("episodes_per_task", 0)])
def test_bad_numbers_are_refused(params: dict, name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} = {value}: must be a whole number"):
        measure(tiny_config(), params, **{name: value})


def test_a_method_with_trials_is_measured_episode_by_episode() -> None:
    """K steps are K + 1 episodes of experience; the fields are the same, and the random initialisation differs."""
    config = config_from_dict(
        {
            "tasks": {"name": "bandit_bernoulli"},
            "policy": {"name": "recurrent", "hidden_size": 4},
            "algorithm": {"name": "rl2"},
        }
    )
    state = jax.jit(build(config).algorithm.init)(jax.random.key(0))
    result = measure(config, state.params, num_inner_steps=4, episodes_per_task=50, num_tasks=6)
    assert result["gradient_steps"] == [0, 1, 2, 3, 4]
    assert np.shape(result["per_task_return"]) == (5, 6)
    assert result["settings"]["step_sizes"] == []
    assert result["settings"]["adaptation"] == "episodes seen"
    # On average over pulls none earns more than the best arm of each task, here 6 of 5 uniform probabilities.
    assert max(per_pull := result["mean_return"]) < result["optimum"] < 1.0, per_pull
    assert result["optimum"] == pytest.approx(5 / 6, abs=0.2)
    assert result["optimum"] == pytest.approx(np.mean(result["per_task_optimum"]))
    assert len(result["per_task_optimum"]) == 6
    # Before training, every pull of a task earns about the same, and tasks differ.
    per_task = np.array(result["per_task_return"])
    assert per_task.mean(axis=0).std() > per_task.std(axis=0).mean() / 2
    assert result["random_initialisation"]["per_task_return"] != result["per_task_return"]
    # The published number is the total of a trial: its interval is that of the tasks' sums.
    sums = per_task.sum(axis=0)
    total = result["total"]
    assert total["mean_return"] == pytest.approx(sums.mean(), rel=1e-6) == pytest.approx(sum(result["mean_return"]))
    half_width = half_interval(sums)
    assert (total["ci_high"] - total["ci_low"]) / 2 == pytest.approx(half_width, rel=0.2)
    assert result["random_initialisation"]["total"]["mean_return"] != total["mean_return"]


def test_weights_are_drawn_one_task_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever they are made of: a batch of factors may wait for ever (see ops.factors)."""

    @jax.custom_batching.custom_vmap
    def ones(key: Key) -> Array:
        return jnp.ones((4, 4))

    @ones.def_vmap
    def refuse(*_: Any) -> None:
        raise AssertionError("a batch")

    monkeypatch.setattr(cells, "orthogonal", lambda key, *_: ones(key))
    policy = {"name": "recurrent", "memory": "gru", "hidden_size": 4}
    config = config_from_dict({"tasks": {"name": "bandit_bernoulli"}, "policy": policy, "algorithm": {"name": "rl2"}})
    params = build(config).algorithm.init(jax.random.key(0)).params
    untrained = measure(config, params, num_inner_steps=1, episodes_per_task=2, num_tasks=3)["random_initialisation"]
    assert np.shape(untrained["per_task_return"]) == (2, 3)


def test_as_many_devices_share_the_tasks_as_divide_them() -> None:
    assert [_sharing(num_tasks, jax.devices()[:1] * 4).size for num_tasks in (8, 9, 10, 11)] == [4, 3, 2, 1]


def test_what_is_measured_by_the_mode_is_beside_what_adaptation_explores_in(params: dict) -> None:
    """After 0 and 1 steps on the very data that ``adapt`` samples, other episodes without noise."""
    family, policy, algorithm, key = *build(tiny_config())[1:4], jax.random.key(5)
    adaptation, task = declared_adaptation(tiny_config(), algorithm), family.sample(key)
    returns = jax.jit(adaptation.with_budget(1, 3, "constant").test)(params, task, key)["return"]  # type: ignore[arg-type]
    for step in (0, 1):
        agent, info = adaptation.with_budget(step, 3, "constant").adapt(params, task, key)
        key_test = jax.random.fold_in(jax.random.fold_in(key, step), 2)
        played = rollout(family, by_mode(policy), agent.params, task, key_test, 3)
        np.testing.assert_allclose(returns[step], played.reward.sum(axis=0), rtol=1e-5)
        assert np.ptp(returns[step]) < 1e-5 < np.ptp(info["return"][step])  # the family itself is without chance
    result = measure(tiny_config(evaluation={"test_policy": "deterministic"}), params, num_inner_steps=0)
    assert result["settings"]["test_policy"] == "deterministic"
    with pytest.raises(
        Refusal, match=r"evaluation\.test_policy = 'deterministic': this method offers no episodes beside"
    ):
        mean_over_episodes(algorithm._replace(test=None), None, (params,), "deterministic")


def test_of_trials_measured_by_the_mode_there_is_no_total() -> None:
    """Their episodes are played from the memory of a trial, and are of none."""
    config = config_from_dict(
        {
            "tasks": {"name": "bandit_bernoulli"},
            "policy": {"name": "recurrent", "hidden_size": 4},
            "algorithm": {"name": "rl2"},
        }
    )
    state = jax.jit(build(config).algorithm.init)(jax.random.key(0))
    result = measure(
        config, state.params, num_inner_steps=2, episodes_per_task=4, num_tasks=2, test_policy="deterministic"
    )
    assert np.shape(result["per_task_return"]) == (3, 2)
    assert "total" not in result


GRID: dict[str, Any] = {
    "tasks": {"name": "grid_navi", "size": 3, "horizon": 4},
    "policy": {"name": "recurrent", "hidden_size": 4},
    "algorithm": {"name": "rl2"},
}


def test_of_a_trial_what_is_best_without_knowing_the_task_is_told_for_as_many_episodes() -> None:
    """Of K + 1 episodes in a row; of others there is no such number, nor on tasks of another distribution."""
    config = config_from_dict(GRID)
    params = build(config).policy.init(jax.random.key(0))
    result = measure(config, params, num_inner_steps=2, episodes_per_task=4, num_tasks=2)
    expected = grid_navi(size=3, horizon=4).bayes_optimum(3)
    assert result["bayes_optimum"] == expected.tolist()
    assert len(result["bayes_optimum"]) == 3
    assert (
        result["bayes_optimum"][0] < result["bayes_optimum"][2] == pytest.approx(4 - 1.1 * 1.8)
    )  # steps before the goal
    settings = {"num_inner_steps": 2, "distribution": "held_out", "test_policy": "stochastic"}
    family = build(config).family
    assert _bayes_optimum(family, settings) == {"bayes_optimum": expected.tolist()}
    assert _bayes_optimum(family, {**settings, "test_policy": "deterministic"}) == {}
    assert _bayes_optimum(family, {**settings, "distribution": "beyond"}) == {}
    assert _bayes_optimum(family._replace(bayes_optimum=None), settings) == {}
    assert _bayes_optimum(family._replace(bayes_optimum=lambda episodes: None), settings) == {}


def test_a_method_without_trials_has_no_best_trial() -> None:
    config = config_from_dict({"tasks": GRID["tasks"], "policy": {"hidden_sizes": [4]}, "algorithm": {"name": "maml"}})
    result = measure(config, build(config).policy.init(jax.random.key(0)), num_inner_steps=0, num_tasks=2)
    assert "optimum" in result
    assert "bayes_optimum" not in result
