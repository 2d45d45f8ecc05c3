"""Observations in units of how they have varied: what is counted, who moves it, and who leaves it alone."""

from functools import partial
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import anil, maml, meta_sgd, reptile, rl2
from metarl_jax.checks import Refusal
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.networks import conv_policy, mlp_policy, recurrent_policy
from metarl_jax.networks.normalised import CLIP, MOMENTS, normalised_policy
from metarl_jax.ops.moments import Moments, no_moments
from metarl_jax.runs.build import build
from metarl_jax.runs.run import load, prepare_directory
from metarl_jax.runs.training import train
from metarl_jax.runs.warm_start import warm_start
from metarl_jax.tasks import navigation_finn
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.types import ActionSpec, Percept, TaskFamily
from tests.helpers import tiny_config

FAMILY = navigation_finn(horizon=3)
PLAIN = mlp_policy((2,), FAMILY.action, hidden_sizes=(4,))
POLICY = normalised_policy(PLAIN, (2,))
MEMORY = normalised_policy(recurrent_policy((2,), ActionSpec(2), hidden_size=3), (2,))
COUNTED = Moments(jnp.array(10.0), jnp.array([1.0, -2.0]), jnp.array([40.0, 90.0]))  # deviations 2 and 3


def percept(observation):
    observation = jnp.array(observation)
    leading = observation.shape[:-1]
    return Percept(observation, jnp.zeros((*leading, 2)), *jnp.zeros((2, *leading)))


def test_observations_are_shown_in_standard_deviations_from_the_mean():
    """Acting and evaluating, cut off at ten; before anything is counted they are shown as they are, but for that."""
    seen, shown = percept([[[3.0, -5.0], [1.0, 1e6]]]), percept([[[1.0, -1.0], [0.0, CLIP]]])
    params = {**jax.jit(PLAIN.init)(jax.random.key(0)), MOMENTS: COUNTED}
    plain = {name: part for name, part in params.items() if name != MOMENTS}

    @partial(jax.jit, static_argnums=0)
    def look(policy, params, seen):
        acted = policy.act(params, (), jax.tree.map(lambda x: x[0], seen), jax.random.key(1))
        return policy.evaluate(params, (), seen), acted

    expected = look(PLAIN, plain, shown)
    chex.assert_trees_all_close(look(POLICY, params, seen), expected, rtol=1e-6)
    nothing = {**plain, MOMENTS: no_moments((2,))}
    chex.assert_trees_all_equal(look(POLICY, nothing, shown), expected)
    beyond = percept([[[1.0, -1.0], [0.0, 1e6]]])
    chex.assert_trees_all_equal(look(POLICY, nothing, beyond), expected)


@jax.jit
def remembered(params, seen):
    return MEMORY.unroll(params, MEMORY.initial_carry(2), seen)


def test_a_memory_is_shown_the_same():
    params = {**jax.jit(MEMORY.init)(jax.random.key(0)), MOMENTS: COUNTED}
    seen, shown = percept([[[3.0, -5.0], [1.0, 1.0]]]), percept([[[1.0, -1.0], [0.0, 1.0]]])
    as_they_are = {**params, MOMENTS: no_moments((2,))}
    chex.assert_trees_all_close(remembered(params, seen), remembered(as_they_are, shown), rtol=1e-6)


def test_no_gradient_reaches_the_moments():
    params = {**jax.jit(PLAIN.init)(jax.random.key(0)), MOMENTS: COUNTED}
    seen = percept([[[3.0, -5.0]]])
    gradient = jax.jit(jax.grad(lambda params: POLICY.evaluate(params, (), seen)[0].mean.sum()))(params)
    assert not any(leaf.any() for leaf in gradient[MOMENTS])
    assert gradient["mean"]["Dense_0"]["kernel"].any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_planes_of_an_image_have_one_mean_and_deviation_each(dtype):
    policy = normalised_policy(conv_policy((4, 4, 2), ActionSpec(3, discrete=True), channels=(2,)), (4, 4, 2))
    image = np.random.default_rng(0).integers(0, 5, (3, 2, 4, 4, 2)).astype(dtype)
    mask = np.array([[1, 1], [1, 0], [0, 0]], np.float32)
    blank = {MOMENTS: no_moments((2,))}
    moments = jax.jit(lambda seen: policy.observe(blank, seen, jnp.asarray(mask), None))(image)[MOMENTS]
    valid = image[mask > 0].astype(float)
    np.testing.assert_allclose(moments.mean, valid.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(moments.squares / moments.how_many, valid.var((0, 1, 2)), rtol=1e-5)


def blind(policy):
    """Counts nothing, so that whatever moves the moments is seen."""
    return policy._replace(observe=None)


def updated(algorithm, params, family: TaskFamily = FAMILY, num_tasks=2):
    """One update from these parameters, the tasks and their keys beside it."""
    keys = jax.random.split(jax.random.key(1), num_tasks)
    tasks = jax.vmap(family.sample)(keys)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state, info = jax.jit(algorithm.update)(state._replace(params={**state.params, **params}), tasks, keys)
    assert info["skipped"] == 0
    return state, tasks, keys


@pytest.mark.parametrize("method", [maml, reptile])
def test_steps_of_any_optimiser_leave_the_moments_alone(method):
    """Decay of weights, which needs no gradient, too; and the gradient's norm, which is clipped, knows none of them."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1, weight_decay=0.5))
    algorithm = method(FAMILY, blind(POLICY), optimizer, num_inner_steps=1, episodes_per_task=2)
    state, *_ = updated(algorithm, {MOMENTS: COUNTED})
    chex.assert_trees_all_equal(state.params[MOMENTS], COUNTED)


def test_inner_steps_neither_move_them_nor_learn_to():
    algorithm = meta_sgd(FAMILY, POLICY, optax.sgd(0.1), episodes_per_task=2)
    params = {**jax.jit(algorithm.init)(jax.random.key(0)).params, MOMENTS: COUNTED}
    assert set(params["inner_rule"]) == {f"mean/Dense_{i}/{kind}" for i in (0, 1) for kind in ("kernel", "bias")} | {
        "log_std"
    }
    agent, _ = jax.jit(algorithm.adapt)(params, FAMILY.sample(jax.random.key(1)), jax.random.key(2))
    chex.assert_trees_all_equal(agent.params[MOMENTS], COUNTED)
    with pytest.raises(Refusal, match=r"adapted = 'observation_moments': is no parameter of the policy"):
        maml(FAMILY, POLICY, optax.sgd(0.1), adapted=(MOMENTS,))
    assert anil(FAMILY, POLICY, optax.sgd(0.1)).adaptation is not None


def test_the_moments_are_those_of_all_stages_of_all_tasks():
    algorithm = maml(FAMILY, POLICY, optax.sgd(0.1), num_inner_steps=1, episodes_per_task=2)
    state, tasks, keys = updated(algorithm, {})
    params = jax.jit(algorithm.init)(jax.random.key(0)).params
    _, stages = jax.jit(jax.vmap(algorithm.collect, in_axes=(None, 0, 0)))(params, tasks, keys)
    sampled = [stage.trajectory for stage in stages]
    seen = np.concatenate([np.asarray(one.percept.observation)[np.asarray(one.mask) > 0] for one in sampled])
    moments = state.params[MOMENTS]
    assert moments.how_many == len(seen)
    np.testing.assert_allclose(moments.mean, seen.mean(0), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(moments.squares / len(seen), seen.var(0), rtol=1e-4)
    broken = {**jax.tree.map(lambda x: x * jnp.nan, state.params), MOMENTS: moments}
    vetoed, info = jax.jit(algorithm.update)(state._replace(params=broken), tasks, keys)
    assert info["skipped"] == 1
    chex.assert_trees_all_equal(vetoed.params[MOMENTS], moments)


def test_the_moments_of_trials_are_those_of_steps_that_count_on_all_devices():
    """Some episodes end early; two devices (vmap stands in) count what one counts of both, and step as it does."""
    immortal = tabular_mdp(num_states=3, num_actions=2, horizon=4)

    def step(task, state, action, key):
        state, observation, reward, _ = immortal.step(task, state, action, key)
        return state, observation, reward, jax.random.uniform(key) < 0.2

    family = immortal._replace(step=step)
    plain = recurrent_policy(family.observation_shape, family.action, hidden_size=3)
    policy = normalised_policy(plain, family.observation_shape)
    algorithm = rl2(family, policy, optax.sgd(0.1), num_minibatches=1, episodes_per_task=2)
    state, tasks, keys = updated(algorithm, {}, family)
    own = jax.jit(policy.init)(jax.random.key(0))

    def trials(task, key):
        return rollout_trial(family, policy, own, task, jax.random.split(key)[0], 2, 2)[0]

    collected = jax.jit(jax.vmap(trials))(tasks, keys)
    valid = np.asarray(collected.percept.observation)[np.asarray(collected.mask) > 0]
    moments = state.params[MOMENTS]
    assert moments.how_many == len(valid) < collected.mask.size
    np.testing.assert_allclose(moments.mean, valid.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(moments.squares / len(valid), valid.var(0), rtol=1e-5, atol=1e-6)

    start = jax.jit(algorithm.init)(jax.random.key(0))
    shared = jax.vmap(lambda task, key: algorithm.update(start, task, key, "devices")[0], axis_name="devices")
    states = jax.jit(shared)(*jax.tree.map(lambda x: x[:, None], (tasks, keys)))
    for device in range(2):
        of_device = jax.tree.map(lambda x, device=device: x[device], states.params)
        chex.assert_trees_all_close(of_device, state.params, rtol=1e-4, atol=1e-5)


def test_policies_that_cannot_hold_them_are_refused():
    with pytest.raises(Refusal, match="normalize_observations = True: this policy counts what it observes by itself"):
        normalised_policy(POLICY, (2,))
    listed = PLAIN._replace(init=lambda key: [PLAIN.init(key)])
    with pytest.raises(Refusal, match="parameters must be a dict"):
        normalised_policy(listed, (2,)).init(jax.random.key(0))


@pytest.mark.slow
def test_a_run_that_is_resumed_counts_on_bit_for_bit(tmp_path: Path) -> None:
    """And its key is every policy's."""
    settings = {"policy": {"normalize_observations": True}}
    for name, ends in (("whole", (4,)), ("broken off", (2, 4))):
        for end in ends:
            config = tiny_config(**settings, training={"num_iterations": end})
            prepare_directory(tmp_path / name, config, resume=end > ends[0], overwrite=False)
            train(build(config), tmp_path / name, devices=jax.devices()[:1], resume=end > ends[0])
    whole, resumed = (load(tmp_path / name).params for name in ("whole", "broken off"))
    assert whole[MOMENTS].how_many == 4 * 4 * 3 * 2 * 5  # updates, tasks, episodes, stages, steps
    chex.assert_trees_all_equal(whole, resumed)
    onwards = build(tiny_config(**settings, training={"initial_run": str(tmp_path / "whole")}))
    begun = warm_start(onwards.algorithm, onwards.config.training, pytest.fail)
    np.testing.assert_array_equal(begun.leaves[f"{MOMENTS}/mean"], whole[MOMENTS].mean)


def test_a_config_switches_it_on_and_a_refusal_names_the_key(write_module) -> None:
    policy = build(tiny_config(policy={"normalize_observations": True})).policy
    assert MOMENTS in jax.eval_shape(policy.init, jax.random.key(0))
    assert MOMENTS not in jax.eval_shape(build(tiny_config()).policy.init, jax.random.key(0))
    write_module(
        "counting",
        "from metarl_jax.networks import mlp_policy, normalised_policy\n"
        "def counting(shape, action):\n"
        "    return normalised_policy(mlp_policy(shape, action), shape)\n",
    )
    own = {"policy": {"name": "counting:counting", "normalize_observations": True}}
    tree = {"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}, **own}
    with pytest.raises(ConfigError, match=r"policy\.normalize_observations = True: this policy counts"):
        build(config_from_dict(tree))
