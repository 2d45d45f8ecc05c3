"""The adapter for gymnax: episodes without its resets and time limits, tasks in parameters and rewards."""

import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gymnax")

import gymnax

from metarl_jax.collect.rollout import rollout
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.tasks.adapters.gymnax import gymnax_family, load_gymnax
from metarl_jax.types import TaskFamily

KEY = jax.random.key(0)
HALF = jnp.array([0.5] * 3)


def cart_pole_family(**kwargs) -> TaskFamily:
    """A pole whose half-length (metres) is the task."""
    env = load_gymnax("CartPole-v1")
    defaults = {
        "sample": lambda key: jax.random.uniform(key, minval=0.25, maxval=1.0),
        "params": lambda task: env.default_params.replace(
            length=task, polemass_length=env.default_params.masspole * task, max_steps_in_episode=2
        ),
        "horizon": 5,
    }
    return gymnax_family(env, **(defaults | kwargs))


def pendulum_family(**kwargs) -> TaskFamily:
    return gymnax_family(load_gymnax("Pendulum-v1"), **({"sample": jax.random.uniform, "horizon": 5} | kwargs))


def cart_pole_step(state: list[float], force: float, length: float) -> list[float]:
    """Barto, Sutton and Anderson (1983), Euler's method; cart 1 kg, pole 0.1 kg."""
    x, x_dot, theta, theta_dot = state
    total, dt = 1.1, 0.02
    push = (force + 0.1 * length * theta_dot**2 * math.sin(theta)) / total
    top = 9.8 * math.sin(theta) - math.cos(theta) * push
    theta_acc = top / (length * (4 / 3 - 0.1 * math.cos(theta) ** 2 / total))
    x_acc = push - 0.1 * length * theta_acc * math.cos(theta) / total
    return [x + dt * x_dot, x_dot + dt * x_acc, theta + dt * theta_dot, theta_dot + dt * theta_acc]


@pytest.fixture(scope="module")
def family() -> TaskFamily:
    return cart_pole_family()


@pytest.fixture(scope="module")
def step(family):
    """Compiled once for all tests that use it: another task, or another state, is other data."""
    yield jax.jit(jax.vmap(chex.assert_max_traces(family.step, n=1)))
    chex.clear_trace_counter()


def start(family, num_lanes: int = 3, seed: int = 0):
    keys = jax.random.split(jax.random.key(seed), num_lanes)
    return jax.vmap(family.reset, in_axes=(None, 0))(jnp.float32(0.5), keys)


def test_each_task_has_its_own_physics(family, step):
    """Three poles pushed alike, against the equations."""
    length = [0.25, 0.5, 1.0]
    state, observation = start(family)
    expected = observation.tolist()
    for action in (1, 1, 0):
        state, observation, reward, terminated = step(
            jnp.array(length), state, jnp.array([action] * 3), jax.random.split(KEY, 3)
        )
        expected = [
            cart_pole_step(pole, 20.0 * action - 10.0, long) for pole, long in zip(expected, length, strict=True)
        ]
        np.testing.assert_allclose(observation, expected, rtol=1e-4, atol=1e-6)
        assert reward.tolist() == [1.0] * 3
        assert terminated.dtype == bool
        assert not terminated.any()  # although max_steps_in_episode is 2


def test_the_last_observation_is_seen_and_nothing_is_reset(family, step):
    state, _ = start(family)
    state = state.replace(x=jnp.array([0.0, 2.5, 0.0]))  # metres; the track ends at 2.4
    after, observation, _, terminated = step(HALF, state, jnp.array([0] * 3), jax.random.split(KEY, 3))
    assert terminated.tolist() == [False, True, False]
    assert observation[1, 0] > 2.4
    assert after.x[1] == observation[1, 0]


def test_reset_draws_fresh_states_from_the_key(family):
    _, first = start(family)
    _, again = start(family)
    assert len(np.unique(first[:, 0])) == 3
    np.testing.assert_array_equal(first, again)


def test_reward_and_termination_can_be_the_tasks_own():
    """Both see the task and the next state; the reward also the state before, the action given, and what it earned."""
    given = cart_pole_family(
        params=None,
        reward=lambda task, previous, action, next, earned: (
            jnp.stack([task, previous.time, action, next.time, earned]) @ 10.0 ** jnp.arange(5)
        ),
        terminated=lambda task, next: next.time > task,
    )
    state, _ = given.reset(jnp.float32(1), KEY)
    assert given.step(jnp.float32(1), state, jnp.array(1), KEY)[2:] == (11101.0, False)
    assert given.step(jnp.float32(0), state, jnp.array(0), KEY)[2:] == (11000.0, True)


def test_held_out_tasks_come_from_sample_unless_given(family):
    assert family.sample_held_out is family.sample
    assert cart_pole_family(sample_held_out=jax.random.normal).sample_held_out is jax.random.normal


@pytest.mark.parametrize(
    ("output", "torque"), [(0.0, 0.0), (5.0, 1.0), (10.0, 2.0), (70.0, 2.0), (-jnp.inf, -2.0), (jnp.inf, 2.0)]
)
def test_continuous_actions_are_mapped_to_the_range_of_the_environment(output, torque):
    family = pendulum_family(action_scale=10.0)
    assert family.action == (1, False)
    state, _ = family.reset(0.0, KEY)
    assert family.step(0.0, state, jnp.array([output]), KEY)[0].last_u == torque


@pytest.mark.parametrize("bad", [-1, 2, 2**31 - 1])
def test_a_choice_that_does_not_exist_earns_nan_in_its_own_lane(family, step, bad):
    state, _ = start(family)
    clean = step(HALF, state, jnp.array([1, 0, 1]), jax.random.split(KEY, 3))
    spoilt = step(HALF, state, jnp.array([1, bad, 1]), jax.random.split(KEY, 3))
    assert jnp.isnan(spoilt[2]).tolist() == [False, True, False]
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(left[::2], right[::2])


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_a_bad_number_stays_in_its_lane(bad):
    """Infinity is clipped; a NaN shows in its own reward."""
    family = pendulum_family()
    state, _ = start(family)
    step = jax.jit(jax.vmap(family.step, in_axes=(None, 0, 0, 0)))
    clean = step(0.0, state, jnp.zeros((3, 1)), jax.random.split(KEY, 3))
    spoilt = step(0.0, state, jnp.zeros((3, 1)).at[1].set(bad), jax.random.split(KEY, 3))
    assert jnp.isnan(spoilt[2]).tolist() == [False, bool(jnp.isnan(bad)), False]
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(left[::2], right[::2])


@pytest.mark.parametrize("name", [name for name in gymnax.registered_envs if name != "MNISTBandit-bsuite"])
def test_any_environment_has_a_stable_carry_and_real_observations(name):
    """MNISTBandit would download its pictures."""
    family = gymnax_family(load_gymnax(name), sample=jax.random.uniform, horizon=3)
    state, observation = jax.eval_shape(family.reset, 0.0, KEY)
    action = jnp.zeros((), int) if family.action.discrete else jnp.zeros(family.action.size)
    after, next_observation, reward, terminated = jax.eval_shape(family.step, 0.0, state, action, KEY)
    for left, right in zip(
        jax.tree.leaves((state, observation)), jax.tree.leaves((after, next_observation)), strict=True
    ):
        assert (left.shape, left.dtype, left.weak_type) == (right.shape, right.dtype, False)
    assert observation.shape == family.observation_shape
    assert observation.dtype == reward.dtype == jnp.float32
    assert (reward.shape, terminated.shape, terminated.dtype) == ((), (), bool)


def test_a_rollout_goes_through(family):
    policy = mlp_policy(family.observation_shape, family.action, hidden_sizes=(4,))
    data = jax.jit(lambda task: rollout(family, policy, policy.init(KEY), task, KEY, 2))(family.sample(KEY))
    assert data.reward.tolist() == [[1.0, 1.0]] * 5


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: load_gymnax("CartPole-v7"), "'CartPole-v7'.*CartPole-v1"),
        (lambda: cart_pole_family(horizon=0), "horizon = 0: must be greater than 0"),
        (lambda: cart_pole_family(horizon=2.5), "horizon = 2.5: must be a whole number"),
        (lambda: pendulum_family(action_scale=0.0), "action_scale = 0.0.*greater than 0"),
    ],
)
def test_errors_name_value_and_remedy(call, named):
    with pytest.raises(ValueError, match=named):
        call()


def test_unbounded_actions_are_refused():
    env = load_gymnax("Pendulum-v1")
    env.action_space = lambda params: gymnax.environments.spaces.Box(-jnp.inf, jnp.inf, (1,))
    with pytest.raises(ValueError, match=r"action space = .*bounded"):
        gymnax_family(env, sample=jax.random.uniform, horizon=3)
