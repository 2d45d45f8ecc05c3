"""Collecting episodes, on a family whose every number can be foretold: a counter that ends at a set count."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.collect.rollout import episode_info, rollout, rollout_tests, rollout_trial
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.tasks.discrete.bandit import BanditTask, bandit_gaussian
from metarl_jax.types import ActionSpec, Agent, Distribution, Policy, TaskFamily

HORIZON = 6


class Counter(NamedTuple):
    """``count`` goes up by one; ``offset`` is drawn at the reset, and lanes above ``broken_above`` observe NaN."""

    count: jax.Array
    offset: jax.Array


def counting_family(horizon=HORIZON, end=10**6, discrete=False, broken_above=2.0):
    """Rewards 1, 2, 3, ...; ends when the count reaches ``task`` + ``end``; a reset draws an offset in [0, 1)."""

    def observe(state):
        return jnp.stack([state.count.astype(float), state.offset])

    def reset(task, key):
        state = Counter(jnp.int32(0), jax.random.uniform(key))
        return state, observe(state)

    def step(task, state, action, key):
        state = Counter(state.count + 1, state.offset)
        observation = jnp.where(state.offset > broken_above, jnp.nan, observe(state))
        reward = jnp.where(state.offset > broken_above, jnp.nan, state.count.astype(float))
        return state, observation, reward, state.count >= task + end

    sample = functools.partial(jax.random.randint, shape=(), minval=0, maxval=3)
    return TaskFamily(sample, sample, reset, step, (2,), ActionSpec(2, discrete), horizon)


def collect(family, num_episodes=4, seed=0, task=0):
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(3,))
    params = jax.jit(policy.init)(jax.random.key(1))
    return jax.jit(lambda: rollout(family, policy, params, jnp.int32(task), jax.random.key(seed), num_episodes))()


@pytest.fixture(scope="module")
def whole():
    return collect(counting_family())


@pytest.fixture(scope="module")
def cut():
    return collect(counting_family(end=2), task=1)


def test_states_are_kept_for_those_who_ask():
    """Of each step, the last one where an episode has ended; else the trajectory is the same and holds none."""
    family = counting_family(end=2)
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(3,))
    arguments = (family, policy, policy.init(jax.random.key(1)), jnp.int32(1), jax.random.key(0), 2)
    kept, plain = (jax.jit(lambda keep=keep: rollout(*arguments, keep_states=keep))() for keep in (True, False))
    np.testing.assert_array_equal(kept.state.count, np.repeat([[1], [2], [3], [3], [3], [3]], 2, axis=1))
    assert plain.state == ()
    jax.tree.map(np.testing.assert_array_equal, kept._replace(state=()), plain)


def test_an_episode_starts_with_the_memory_it_is_given():
    family = counting_family(horizon=1)
    policy = recurrent_policy(family.observation_shape, family.action, hidden_size=3)
    params, task = policy.init(jax.random.key(1)), jnp.int32(0)
    memory = jax.tree.map(lambda x: x + 0.5, policy.initial_carry(2))
    played, blank = (
        jax.jit(lambda carry=carry: rollout(family, policy, params, task, jax.random.key(0), 2, carry=carry))()
        for carry in (memory, None)
    )
    np.testing.assert_allclose(
        played.dist_params.mean, policy.evaluate(params, memory, played.percept)[0].mean, rtol=1e-5
    )
    assert not np.allclose(played.dist_params.mean, blank.dist_params.mean)


def test_horizon_is_fixed_and_not_a_termination(whole):
    """All T steps are valid, with discount 1 at the time limit, and the final percept is what comes next."""
    assert whole.reward.shape == whole.mask.shape == whole.log_prob.shape == (HORIZON, 4)
    assert (whole.mask == 1).all()
    assert (whole.discount == 1).all()
    np.testing.assert_array_equal(whole.reward, np.arange(1, 7)[:, None].repeat(4, 1))
    np.testing.assert_array_equal(whole.percept.observation[:, :, 0], np.arange(6)[:, None].repeat(4, 1))
    np.testing.assert_array_equal(whole.final_percept.observation[:, 0], 6)
    np.testing.assert_array_equal(whole.final_percept.previous_reward, 6)
    np.testing.assert_array_equal(whole.final_percept.previous_action, whole.action[-1])


def test_termination_masks_and_freezes(cut):
    """Ends after 3 steps: that step is valid with discount 0; afterwards nothing is earned and nothing moves."""
    expect = {
        "mask": [1, 1, 1, 0, 0, 0],
        "discount": [1, 1, 0, 1, 1, 1],
        "reward": [1, 2, 3, 0, 0, 0],
    }
    for name, values in expect.items():
        np.testing.assert_array_equal(getattr(cut, name), np.array(values)[:, None].repeat(4, 1), name)
    np.testing.assert_array_equal(cut.percept.observation[:, 0, 0], [0, 1, 2, 3, 3, 3])
    np.testing.assert_array_equal(cut.final_percept.observation[:, 0], 3)


def test_termination_at_the_last_step_is_still_a_termination():
    """Discount 0 where the task ends exactly at the time limit."""
    trajectory = collect(counting_family(end=HORIZON))
    np.testing.assert_array_equal(trajectory.discount[-1], 0)
    assert (trajectory.mask == 1).all()


def test_percept_holds_the_previous_action_reward_and_the_start_flag(whole):
    """What a memory-based policy needs to see."""
    percept = whole.percept
    np.testing.assert_array_equal(percept.done, np.eye(HORIZON)[:, :1].repeat(4, 1))
    np.testing.assert_array_equal(percept.previous_reward[1:], whole.reward[:-1])
    np.testing.assert_array_equal(percept.previous_action[1:], whole.action[:-1])
    assert not percept.previous_reward[0].any()
    assert not percept.previous_action[0].any()


def test_every_episode_has_its_own_reset_and_actions(whole):
    """Fresh keys: no two lanes share a start or an action, no two steps an action's noise."""
    assert len(np.unique(whole.percept.observation[0, :, 1])) == 4
    noise = (whole.action - whole.dist_params.mean) * np.exp(-whole.dist_params.log_std)
    assert len(np.unique(np.round(noise, 5))) == noise.size


def test_stored_probabilities_are_those_of_the_stored_actions(whole):
    """log_prob and dist_params describe the policy that sampled, at the percept it saw."""
    policy = mlp_policy((2,), ActionSpec(2), hidden_sizes=(3,))
    dist_params, _ = policy.evaluate(jax.jit(policy.init)(jax.random.key(1)), (), whole.percept)
    np.testing.assert_allclose(whole.dist_params.mean, dist_params.mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(whole.log_prob, policy.distribution.log_prob(dist_params, whole.action), rtol=1e-5)


def test_first_steps_of_a_longer_horizon_are_the_same(whole):
    """Random numbers are addressed by time step."""
    longer = collect(counting_family(horizon=HORIZON + 3))
    for short, long in zip(jax.tree.leaves(whole[:-1]), jax.tree.leaves(longer[:-1]), strict=True):
        np.testing.assert_array_equal(short, long[:HORIZON])


def test_another_key_gives_other_episodes(whole):
    """Protects against a key that is not used."""
    other = collect(counting_family(), seed=1)
    assert (other.percept.observation[0, :, 1] != whole.percept.observation[0, :, 1]).all()
    assert (other.action != whole.action).all()


def test_lanes_are_independent(whole):
    """An environment that fails in some episodes fails in them alone: the others are what they were."""
    offsets = np.sort(whole.percept.observation[0, :, 1])
    broken = collect(counting_family(broken_above=float(offsets[1:3].mean())))
    is_bad = whole.percept.observation[0, :, 1] > offsets[1]
    assert (broken.mask == ~is_bad).all()
    np.testing.assert_array_equal(broken.action[:, ~is_bad], whole.action[:, ~is_bad])
    np.testing.assert_array_equal(broken.reward[:, ~is_bad], whole.reward[:, ~is_bad])


class Fragile(NamedTuple):
    """``best`` is some environments' word for *not yet*; ``clock`` is no number that could break."""

    count: jax.Array
    best: jax.Array
    clock: jax.Array


FAULTS = ("none", "state nan", "state inf", "best nan", "observation", "reward nan", "reward inf", "reset")


def fragile_family(ends_there=False):
    """The fault that the task names, at step 2 of 4, which may also be the step that terminates."""

    def reset(fault, key):
        observation = jnp.where(fault == FAULTS.index("reset"), jnp.nan, jnp.zeros(1))
        return Fragile(jnp.zeros(()), -jnp.array(jnp.inf), jnp.int32(0)), observation

    def step(fault, state, action, key):
        def here(name):
            return (fault == FAULTS.index(name)) & (state.count == 1)

        count = jnp.where(here("state nan"), jnp.nan, jnp.where(here("state inf"), jnp.inf, state.count + 1))
        best = jnp.where(here("best nan"), jnp.nan, state.best)
        reward = jnp.where(here("reward nan"), jnp.nan, jnp.where(here("reward inf"), -jnp.inf, 1.0))
        observation = jnp.where(here("observation"), jnp.nan, count)[None]
        return Fragile(count, best, state.clock), observation, reward, ends_there & (state.count >= 1)

    sample = functools.partial(jax.random.randint, shape=(), minval=0, maxval=1)
    return TaskFamily(sample, sample, reset, step, (1,), ActionSpec(2), 4)


@functools.cache
def fragile_rollout(ends_there=False):
    family = fragile_family(ends_there)
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(3,))
    params = jax.jit(policy.init)(jax.random.key(1))
    return params, jax.jit(lambda params, fault: rollout(family, policy, params, fault, jax.random.key(0), 2))


@pytest.mark.parametrize("ends_there", [False, True])
@pytest.mark.parametrize("fault", ["state nan", "state inf", "best nan", "reward nan", "reward inf", "reset"])
def test_an_episode_in_which_the_environment_fails_counts_nowhere(fault, ends_there):
    """Whether the environment ends it there (as Playground's do) or not; what the policy sees stays finite."""
    params, play = fragile_rollout(ends_there)
    trajectory = play(params, FAULTS.index(fault))
    assert not trajectory.mask.any()
    assert not trajectory.reward.any()
    assert (trajectory.discount == 1).all()
    np.testing.assert_array_equal(trajectory.taken[:, 0], [0] * 4 if fault == "reset" else [1, 1, 0, 0])
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(trajectory))


def test_an_observation_that_is_not_finite_fails_only_where_the_policy_would_act_on_it():
    """That of a step that terminates does not: the episode is what it is with a finite one."""
    params, play = fragile_rollout()
    assert not play(params, FAULTS.index("observation")).mask.any()
    params, play = fragile_rollout(ends_there=True)
    finite, terminal = (play(params, FAULTS.index(name)) for name in ("none", "observation"))
    for trajectory in (finite, terminal):
        np.testing.assert_array_equal(trajectory.mask[:, 0], [1, 1, 0, 0])
        np.testing.assert_array_equal(trajectory.reward[:, 0], [1, 1, 0, 0])
        np.testing.assert_array_equal(trajectory.discount[:, 0], [1, 0, 1, 1])
    assert np.isfinite(terminal.percept.observation).all()
    assert np.isfinite(terminal.final_percept.observation).all()
    np.testing.assert_array_equal(finite.percept.observation[:2], terminal.percept.observation[:2])


def test_an_infinity_that_the_state_holds_from_the_start_is_no_failure():
    params, play = fragile_rollout()
    trajectory = play(params, FAULTS.index("none"))
    assert trajectory.mask.all()
    assert trajectory.taken.all()


def test_an_action_that_is_not_finite_is_the_policys_fault():
    """It stays where it is, so that the loss is NaN and the update is not taken."""
    params, play = fragile_rollout()
    trajectory = play(jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params), FAULTS.index("none"))
    assert np.isnan(trajectory.action).all()
    assert trajectory.mask.all()


def test_discrete_actions():
    """Integers without a trailing axis, in the percept too."""
    trajectory = collect(counting_family(discrete=True))
    assert trajectory.action.shape == (HORIZON, 4)
    assert trajectory.action.dtype == trajectory.percept.previous_action.dtype == jnp.int32
    assert set(np.unique(trajectory.action)) <= {0, 1}
    np.testing.assert_array_equal(trajectory.percept.previous_action[1:], trajectory.action[:-1])


def test_a_policy_with_memory_carries_it_through_an_episode():
    """The carry that ``act`` returns comes back at the next step, from ``initial_carry`` on."""
    inner = mlp_policy((2,), ActionSpec(2), hidden_sizes=(3,))

    def act(params, carry, percept, key):
        _, _, dist_params, _ = inner.act(params, (), percept, key)
        return jnp.stack([carry, carry], axis=-1), carry, dist_params, carry + 1.0

    policy = Policy(inner.init, lambda size: jnp.full(size, 5.0), act, inner.evaluate, inner.distribution)
    agent = Agent(jax.jit(policy.init)(jax.random.key(0)), policy.initial_carry(3))
    trajectory = rollout(counting_family(), policy, agent.params, jnp.int32(0), jax.random.key(0), 3)
    np.testing.assert_array_equal(trajectory.action[:, :, 0], 5 + np.arange(HORIZON)[:, None].repeat(3, 1))


EPISODES_PER_TRIAL = 3


def remembering_policy(action):
    """Counts its steps in the carry and acts at random; a discrete action is the count so far, modulo 2."""
    inner = mlp_policy((2,), action, hidden_sizes=(3,))

    def act(params, carry, percept, key):
        chosen, log_prob, dist_params, _ = inner.act(params, (), percept, key)
        if action.discrete:
            chosen = carry.astype(jnp.int32) % 2
        return chosen, log_prob, dist_params, carry + 1.0

    return inner._replace(act=act, initial_carry=jnp.zeros)


def run_trials(family, episodes_per_trial=EPISODES_PER_TRIAL, num_trials=4, task=0):
    policy = remembering_policy(family.action)
    params = jax.jit(policy.init)(jax.random.key(1))
    return jax.jit(
        lambda: rollout_trial(
            family, policy, params, jnp.int32(task), jax.random.key(0), episodes_per_trial, num_trials
        )
    )()


@pytest.fixture(scope="module")
def trials():
    return run_trials(counting_family())


def test_memory_lasts_for_the_trial_and_the_environment_for_an_episode(trials):
    """Rewards start from 1 again in each episode, every one with a reset of its own; the carry counts on."""
    trajectory, carry = trials
    assert trajectory.reward.shape == (EPISODES_PER_TRIAL * HORIZON, 4)
    np.testing.assert_array_equal(trajectory.reward[:, 0], np.tile(np.arange(1, HORIZON + 1), EPISODES_PER_TRIAL))
    np.testing.assert_array_equal(carry, EPISODES_PER_TRIAL * HORIZON)
    assert len(np.unique(trajectory.percept.observation[::HORIZON, :, 1])) == EPISODES_PER_TRIAL * 4


def test_percepts_at_the_start_of_a_trial_and_of_later_episodes(trials):
    """Done is 1 at both; a trial starts from nothing, an episode with the last action and reward of the one before."""
    percept = trials[0].percept
    np.testing.assert_array_equal(percept.done[:, 2], np.tile(np.eye(HORIZON)[0], EPISODES_PER_TRIAL))
    assert not percept.previous_reward[0].any()
    assert not percept.previous_action[0].any()
    np.testing.assert_array_equal(percept.previous_reward[1:], trials[0].reward[:-1])
    np.testing.assert_array_equal(percept.previous_action[1:], trials[0].action[:-1])


def test_an_episode_that_ends_early_hands_on_its_true_last_action_and_reward():
    """Ends after 3 of 6 steps: masked until the horizon; the next episode sees step 3, not the frozen ones."""
    trajectory, carry = run_trials(counting_family(end=2), task=1)
    np.testing.assert_array_equal(trajectory.mask[:, 0], [1, 1, 1, 0, 0, 0] * EPISODES_PER_TRIAL)
    np.testing.assert_array_equal(trajectory.discount[:, 0], [1, 1, 0, 1, 1, 1] * EPISODES_PER_TRIAL)
    np.testing.assert_array_equal(trajectory.percept.previous_reward[HORIZON::HORIZON], 3)
    np.testing.assert_array_equal(trajectory.percept.previous_action[HORIZON], trajectory.action[2])
    assert (trajectory.action[HORIZON - 1] != trajectory.action[2]).any()
    np.testing.assert_array_equal(carry, EPISODES_PER_TRIAL * HORIZON)


def test_the_reward_of_a_one_step_episode_is_seen_in_the_next():
    """On a bandit all information crosses episode boundaries: zeroing it there would hide every reward."""
    family = bandit_gaussian(num_arms=2)
    policy = recurrent_policy(family.observation_shape, family.action, hidden_size=3)
    params = jax.jit(policy.init)(jax.random.key(0))
    task = BanditTask(jnp.array([5.0, -5.0]))
    trajectory, _ = jax.jit(lambda: rollout_trial(family, policy, params, task, jax.random.key(1), 8, 2))()
    assert (abs(trajectory.reward) > 0.1).all()
    np.testing.assert_array_equal(trajectory.percept.previous_reward[1:], trajectory.reward[:-1])
    np.testing.assert_array_equal(trajectory.percept.previous_action[1:], trajectory.action[:-1])
    np.testing.assert_array_equal(trajectory.percept.done, 1.0)
    # What was seen decides what the policy does: its stored distributions are those of these percepts.
    dist_params, _ = jax.jit(policy.evaluate)(params, policy.initial_carry(2), trajectory.percept)
    np.testing.assert_allclose(dist_params, trajectory.dist_params, rtol=1e-4, atol=1e-6)


def test_a_trial_of_one_episode_is_a_rollout():
    """The same steps by the same code, up to the rounding of two programs."""
    family, policy = counting_family(end=2), remembering_policy(ActionSpec(2))
    params = jax.jit(policy.init)(jax.random.key(1))
    trial, _ = run_trials(family, episodes_per_trial=1)
    key = jax.random.fold_in(jax.random.key(0), 0)
    plain = jax.jit(lambda: rollout(family, policy, params, jnp.int32(0), key, 4))()
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6), trial, plain)


def test_trials_of_discrete_actions():
    trajectory, _ = run_trials(counting_family(discrete=True))
    assert trajectory.action.dtype == trajectory.percept.previous_action.dtype == jnp.int32
    np.testing.assert_array_equal(trajectory.action[:, 0], np.arange(EPISODES_PER_TRIAL * HORIZON) % 2)


def test_a_trial_goes_on_after_an_episode_in_which_the_environment_failed():
    """Of three episodes the one with the largest offset fails at its first step: it alone counts nowhere."""
    sound = run_trials(counting_family())[0]
    offsets = np.asarray(sound.percept.observation[::HORIZON, 0, 1])
    trajectory, carry = run_trials(counting_family(broken_above=float(np.sort(offsets)[1:].mean())))
    failed = np.asarray(sound.percept.observation[::HORIZON, :, 1]).repeat(HORIZON, 0) > np.sort(offsets)[1:].mean()
    assert failed[:, 0].sum() == HORIZON
    np.testing.assert_array_equal(trajectory.mask, ~failed)
    np.testing.assert_array_equal(trajectory.reward, np.where(failed, 0, sound.reward))
    np.testing.assert_array_equal(trajectory.taken.sum(0), HORIZON * EPISODES_PER_TRIAL - 5 * failed[::HORIZON].sum(0))
    assert np.isfinite(trajectory.percept.observation).all()
    assert np.isfinite(trajectory.percept.previous_reward).all()
    np.testing.assert_array_equal(carry, EPISODES_PER_TRIAL * HORIZON)


def test_episodes_by_the_mode_are_played_beside_a_trial_and_forgotten():
    """A policy that acts on how many steps it remembers and what the last one earned, with noise where it samples."""

    def act(params, carry, percept, key):
        mean = jnp.stack([carry, percept.previous_reward], axis=-1)
        action = mean + jax.random.normal(key, mean.shape)
        return action, jnp.zeros_like(carry), mean, carry + 1.0

    normal = Distribution(None, lambda mean, action: mean[..., 0], None, None, mode=lambda mean: mean)
    policy = Policy(lambda key: {}, jnp.zeros, act, None, normal)
    key, family = jax.random.key(3), counting_family()
    tests = rollout_tests(family, policy, {}, jnp.int32(0), key, 3, 2)
    assert tests.reward.shape == (3, HORIZON, 2)
    steps = jnp.arange(HORIZON, dtype=float)
    for i, episode in enumerate(tests.action):
        np.testing.assert_array_equal(episode[:, 0, 0], i * HORIZON + steps)
        np.testing.assert_array_equal(episode[:, 0, 1], steps.at[0].set(HORIZON if i else 0))
    trial, _ = rollout_trial(family, policy, {}, jnp.int32(0), key, 3, 2)
    assert (tests.percept.observation != trial.percept.observation.reshape(3, HORIZON, 2, 2)).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(episode_info(tests)["return"], np.full((3, 2), sum(range(1, HORIZON + 1))))
