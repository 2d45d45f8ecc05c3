"""RL^2: what its update is made of, by hand, and that it learns to learn."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.algorithms.memory.core import side_by_side
from metarl_jax.algorithms.memory.rl2 import rl2
from metarl_jax.algorithms.memory.trpo_rl2 import trpo_rl2
from metarl_jax.collect.rollout import rollout_trial
from metarl_jax.networks.belief import belief_policy
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.ops.moments import add_numbers, no_moments, running_std
from metarl_jax.ops.returns import masked_mean
from metarl_jax.ops.trust_region import linearise_policy
from metarl_jax.tasks.discrete.bandit import bandit_bernoulli
from metarl_jax.tasks.discrete.tabular import tabular_mdp
from metarl_jax.types import ActionSpec

N_EPISODES, TASKS, TRIALS = 3, 2, 2
FAMILY = tabular_mdp(num_states=2, num_actions=2, horizon=2)
POLICY = recurrent_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=3)
ASSOCIATIVE = recurrent_policy(
    FAMILY.observation_shape, FAMILY.action, hidden_size=3, head_sizes=(5,), memory_slots=4, slot_size=2
)
LINEAR = recurrent_policy(
    FAMILY.observation_shape, FAMILY.action, hidden_size=3, memory="s5", num_layers=1, state_size=2
)


@pytest.fixture(scope="module")
def collected():
    """``(params, trials [M, T, B])``."""
    params = jax.jit(POLICY.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), TASKS)
    tasks = jax.vmap(FAMILY.sample)(keys)

    def collect(task, key):
        return rollout_trial(FAMILY, POLICY, params, task, key, N_EPISODES, TRIALS)[0]

    return params, jax.jit(jax.vmap(collect))(tasks, keys)


def test_trials_side_by_side_keep_their_steps_together(collected):
    """Column ``m B + b`` is trial ``b`` of task ``m``, its final percept too."""
    _, trials = collected
    flat = side_by_side(trials)
    for m in range(TASKS):
        for b in range(TRIALS):
            np.testing.assert_array_equal(flat.reward[:, m * TRIALS + b], trials.reward[m, :, b])
            last = trials.final_percept.previous_reward[m, b]
            np.testing.assert_array_equal(flat.final_percept.previous_reward[m * TRIALS + b], last)


@pytest.mark.parametrize("policy", [POLICY, ASSOCIATIVE, LINEAR], ids=["cell", "associative", "linear"])
@pytest.mark.slow
def test_the_trust_region_of_a_memory_has_the_dense_hessian(collected, policy):
    """J^T F J through the whole unrolled memory is the Hessian of the mean divergence, written out in float64."""
    params, trials = jax.jit(policy.init)(jax.random.key(0)), collected[1]
    with jax.enable_x64(True):
        flat, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(float), params))
        seen = side_by_side(trials)

        def distributions(flat):
            return policy.evaluate(unravel(flat), policy.initial_carry(TASKS * TRIALS), seen.percept)[0]

        def mean_kl(p, q):
            return masked_mean(policy.distribution.kl(p, q), seen.mask)

        here = linearise_policy(distributions, mean_kl, flat)
        ours = jax.jit(jax.vmap(here.kl_product))(jnp.eye(flat.size))
        dense = jax.jit(jax.hessian(lambda x: mean_kl(here.reference, distributions(x))))(flat)
        assert np.abs(dense).max() > 1e-4
        np.testing.assert_allclose(ours, dense, rtol=1e-6, atol=1e-10)


def test_running_moments_are_those_of_all_numbers():
    """Three batches, masked entries (NaN among them) left out; and shared by two devices."""
    rewards = 3.0 + 2.0 * np.random.default_rng(0).normal(size=(3, 4, 6)).astype(np.float32)
    mask = np.random.default_rng(1).integers(0, 2, size=rewards.shape).astype(np.float32)
    rewards[mask == 0] = np.nan
    moments = no_moments()
    for reward, valid in zip(rewards, mask, strict=True):
        moments = add_numbers(moments, reward, valid)
    expected = rewards[mask > 0]
    np.testing.assert_allclose(moments.mean, expected.mean(), rtol=1e-5)
    np.testing.assert_allclose(running_std(moments), expected.std(), rtol=1e-5)
    shared = jax.vmap(lambda r, m: add_numbers(no_moments(), r, m, "devices"), axis_name="devices")
    for left, right in zip(shared(rewards, mask), moments, strict=True):
        np.testing.assert_allclose(left, np.full(3, right), rtol=1e-4)


@pytest.mark.slow
def test_normalised_rewards_do_not_feel_their_unit():
    """Rewards a thousand times larger make the same first update; without normalisation the critic's loss explodes."""
    params_and_losses = []
    for scale in (1.0, 1000.0):

        def step(task, state, action, key, scale=scale):
            state, observation, reward, terminated = FAMILY.step(task, state, action, key)
            return state, observation, scale * reward, terminated

        # The policy sees rewards as they are: hide them, to compare what becomes of them in the loss.
        blind = POLICY._replace(
            act=lambda p, c, percept, k: POLICY.act(p, c, percept._replace(previous_reward=0 * percept.done), k),
            unroll=lambda p, c, percept: POLICY.unroll(p, c, percept._replace(previous_reward=0 * percept.done)),
        )
        algorithm = rl2(FAMILY._replace(step=step), blind, optax.sgd(0.1), normalize_rewards=True, num_minibatches=2)
        keys = jax.random.split(jax.random.key(1), 4)
        state = jax.jit(algorithm.init)(jax.random.key(0))
        update = jax.jit(algorithm.update)
        state, info = update(state, jax.vmap(FAMILY.sample)(keys), keys)
        params_and_losses.append((state.params, info["value_loss"]))
    for left, right in zip(*map(jax.tree.leaves, params_and_losses), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-5)


def make(policy=POLICY, **settings):
    defaults = {"episodes_per_trial": N_EPISODES, "episodes_per_task": TRIALS, "num_minibatches": 2}
    return rl2(FAMILY, policy, optax.sgd(0.1), **{**defaults, **settings})


@pytest.mark.slow
def test_the_entropy_bonus_fades_over_its_updates():
    """After s of 10 updates it weighs 1 - s/10 of what it did, and nothing from then on."""
    keys = jax.random.split(jax.random.key(1), 4)
    tasks = jax.vmap(FAMILY.sample)(keys)
    begun = jax.jit(make().init)(jax.random.key(0))

    @partial(jax.jit, static_argnames="entropy_decay_updates")
    def gradient_step(finished, entropy_coef, entropy_decay_updates=None):
        algorithm = make(entropy_coef=entropy_coef, entropy_decay_updates=entropy_decay_updates)
        return ravel_pytree(algorithm.update(begun._replace(step=finished), tasks, keys)[0].params)[0]

    for finished, weight in ((0, 0.4), (5, 0.2), (10, 0.0), (99, 0.0)):
        faded = gradient_step(finished, 0.4, entropy_decay_updates=10)
        np.testing.assert_allclose(faded, gradient_step(finished, weight), rtol=1e-5, atol=1e-6)
        assert np.abs(faded - gradient_step(finished, weight + 0.05)).max() > 1e-4


@pytest.mark.parametrize("policy", [POLICY, ASSOCIATIVE], ids=["cell", "associative"])
def test_adapt_returns_each_episode_and_the_memory(policy):
    """``[n, B]`` sums of rewards over each episode's own steps, and the carry at the end of the trial."""
    algorithm = make(policy=policy)
    params, task, key = (
        jax.jit(algorithm.init)(jax.random.key(0)).params,
        FAMILY.sample(jax.random.key(1)),
        jax.random.key(2),
    )
    agent, info = jax.jit(algorithm.adapt)(params, task, key)
    trajectory, carry = jax.jit(lambda: rollout_trial(FAMILY, policy, params, task, key, N_EPISODES, TRIALS))()
    np.testing.assert_allclose(info["return"], trajectory.reward.reshape(N_EPISODES, 2, TRIALS).sum(1), rtol=1e-5)
    chex.assert_trees_all_close(agent.carry, carry, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make_algorithm", [make, lambda policy: trpo_rl2(FAMILY, policy)])
def test_a_policy_without_memory_is_refused(make_algorithm):
    memoryless = mlp_policy((2,), ActionSpec(2, True), critic_hidden_sizes=(4,))
    with pytest.raises(ValueError, match=r"policy = 'without memory': .* set policy.name to recurrent"):
        make_algorithm(policy=memoryless)


@pytest.mark.parametrize("make_algorithm", [make, lambda policy: trpo_rl2(FAMILY, policy)])
def test_a_belief_that_nobody_would_train_is_refused(make_algorithm):
    with pytest.raises(ValueError, match=r"policy = 'with a belief': only varibad .* set policy.name to recurrent"):
        make_algorithm(policy=belief_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=3))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("episodes_per_trial", 0),
        ("num_epochs", 0),
        ("num_minibatches", 0),
        ("clip_eps", 0.0),
        ("entropy_decay_updates", 0),
        ("bptt_length", 0),
        ("chunk_length", 0),
        ("huber_delta", 0.0),
        ("value_clip_eps", 0.0),
    ],
)
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        make(**{name: value})


@pytest.mark.parametrize("policy", [POLICY, ASSOCIATIVE], ids=["cell", "associative"])
def test_chunks_with_the_carries_of_collecting_have_the_gradient_of_truncation(policy):
    """One epoch and one minibatch: nothing has moved since, so a stored carry is the one that reading again gives."""
    keys = jax.random.split(jax.random.key(1), 2)
    tasks = jax.vmap(FAMILY.sample)(keys)
    settings = {"policy": policy, "num_epochs": 1, "num_minibatches": 1}
    state = jax.jit(make(**settings).init)(jax.random.key(0))

    def moved(**more):
        return ravel_pytree(jax.jit(make(**settings, **more).update)(state, tasks, keys)[0].params)[0]

    chunked = moved(chunk_length=2)
    np.testing.assert_allclose(chunked, moved(bptt_length=2), rtol=1e-4, atol=1e-6)
    assert np.abs(chunked - moved()).max() > 1e-5


def test_steps_on_chunks_shuffle_all_chunks():
    """2 tasks, 2 trials each, 3 chunks each: 12 columns of 2 steps, of which 6 minibatches can be made."""
    keys = jax.random.split(jax.random.key(1), 2)
    tasks = jax.vmap(FAMILY.sample)(keys)
    algorithm = make(chunk_length=2, num_minibatches=6)
    state, info = jax.jit(algorithm.update)(jax.jit(algorithm.init)(jax.random.key(0)), tasks, keys)
    assert info["skipped"] == 0
    np.testing.assert_allclose(info["outer_ratio_error"], 0.0, atol=1e-5)
    with pytest.raises(ValueError, match=r"num_minibatches = 5: must divide the 12 .* or chunks of them"):
        make(chunk_length=2, num_minibatches=5).update(state, tasks, keys)
    with pytest.raises(ValueError, match=r"chunk_length = 4: must divide the 6 steps of a trial"):
        make(chunk_length=4).update(state, tasks, keys)


def total_reward(name, num_updates, num_tasks=300):
    """Total reward of 10 pulls of 2 arms, before and after training."""
    family = bandit_bernoulli(num_arms=2)
    policy = recurrent_policy(family.observation_shape, family.action, hidden_size=16)
    if name == "rl2":
        algorithm = rl2(family, policy, optax.adam(5e-3), episodes_per_trial=10, discount=1.0, gae_lambda=0.3)
    else:
        algorithm = trpo_rl2(family, policy, episodes_per_trial=10, max_kl=0.02, discount=1.0)

    def update(i, state):
        key_tasks, key_data = jax.random.split(jax.random.fold_in(jax.random.key(1), i))
        tasks = jax.vmap(family.sample)(jax.random.split(key_tasks, num_tasks))
        return algorithm.update(state, tasks, jax.random.split(key_data, num_tasks))[0]

    def measure(state):
        keys = jax.random.split(jax.random.key(2), 3000)
        tasks = jax.vmap(family.sample_held_out)(keys)
        _, info = jax.vmap(algorithm.adapt, in_axes=(None, 0, 0))(state.params, tasks, keys)
        return info["return"].sum(axis=(1, 2)).mean()

    state = jax.jit(algorithm.init)(jax.random.key(0))
    measure = jax.jit(measure)
    return measure(state), measure(jax.jit(lambda state: jax.lax.fori_loop(0, num_updates, update, state))(state))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "num_updates"), [("rl2", 60), ("trpo_rl2", 60)])
def test_it_learns_to_learn(name, num_updates):
    """Two arms, ten pulls: no memoryless policy earns more than 5; the best arm earns 6.67."""
    before, after = total_reward(name, num_updates)
    np.testing.assert_allclose(before, 5.0, atol=0.2)
    assert after > 5.8
