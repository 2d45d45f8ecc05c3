"""The adapter to MuJoCo Playground: on an environment with its interface, and on one of its own where installed."""

import copy
import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metarl_jax as mrl
from metarl_jax.collect.rollout import rollout
from metarl_jax.tasks.adapters.playground import load_playground, playground_family

HORIZON = 4


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Model:
    """A model whose only physics is how heavy the body is."""

    body_mass: jax.Array

    def replace(self, **changes):
        return dataclasses.replace(self, **changes)


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
    """The fields of Playground's state."""

    data: jax.Array
    obs: dict
    reward: jax.Array
    done: jax.Array
    metrics: dict
    info: dict


class Slider:
    """A mass pushed along a line, with Playground's interface: ``x += push / mass``; ends beyond 3."""

    def __init__(self):
        self._mjx_model = Model(jnp.array(2.0))
        self.action_size = 1

    @property
    def mjx_model(self):
        return self._mjx_model

    def reset(self, key):
        key, key_start = jax.random.split(key)
        x = jax.random.uniform(key_start)
        return self._state(x, 0.0, {"rng": key, "count": 0})

    def step(self, state, action):
        x = state.data + action[0] / self._mjx_model.body_mass
        return self._state(x, -jnp.abs(x), {**state.info, "count": state.info["count"] + 1})

    def _state(self, x, reward, info):
        obs = {"state": jnp.stack([x, 1.0]), "privileged_state": jnp.zeros(5)}
        return State(x, obs, jnp.asarray(reward), jnp.float32(x > 3.0), {"x": x}, info)


def family(**settings):
    return playground_family(Slider(), **{"sample": jax.random.uniform, "horizon": HORIZON, **settings})


def slide(family, task, pushes):
    """Observations, rewards and terminations of these actions, in one scan."""

    def step(state, push):
        state, *seen = family.step(task, state, jnp.array([push]), jax.random.key(1))
        return state, seen

    state, first = family.reset(task, jax.random.key(0))
    return (float(first[0]), *(np.asarray(x) for x in jax.lax.scan(step, state, jnp.array(pushes))[1]))


def test_steps_are_those_of_the_environment():
    """Its own reward and end, the entry ``state`` of its observations, pushes clipped to its range."""
    start, seen, reward, ended = slide(family(action_scale=2.0), jnp.float32(0), [1.0, -2.0, 50.0, 2.0])
    np.testing.assert_allclose(seen[:, 0], start + np.array([0.25, -0.25, 0.25, 0.75]), rtol=1e-6)
    np.testing.assert_allclose(reward, -np.abs(seen[:, 0]), rtol=1e-6)
    assert (ended.tolist(), seen.shape[1:], ended.dtype) == ([False] * 4, (2,), bool)
    start, *_, ended = slide(family(), jnp.float32(0), [1.0] * 7)
    assert ended.tolist() == (start + 0.5 * np.arange(1, 8) > 3.0).tolist()
    assert ended.any()


def test_the_task_decides_the_reward_and_the_end():
    task = jnp.float32(0.4)
    made = family(
        reward=lambda task, previous, action, next: task * (next.data - previous.data) - action[0],
        terminated=lambda task, next: next.info["count"] > 2,
    )
    _, _, reward, ended = slide(made, task, [0.5, 1.0, -1.0])
    np.testing.assert_allclose(reward, 0.4 * np.array([0.25, 0.5, -0.5]) - [0.5, 1.0, -1.0], rtol=1e-6)
    assert ended.tolist() == [False, False, True]


def test_each_lane_has_its_own_physics_and_the_environment_keeps_its_own():
    env = Slider()
    made = playground_family(
        env,
        sample=jax.random.uniform,
        model=lambda task, model: model.replace(body_mass=task * model.body_mass),
        horizon=HORIZON,
    )
    before = copy.copy(env.mjx_model)
    starts, seen, *_ = jax.vmap(lambda task: slide_arrays(made, task))(jnp.array([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(seen[:, 0, 0] - starts, [0.5, 0.25, 0.125], rtol=1e-5)
    assert env.mjx_model == before


def slide_arrays(family, task):
    state, first = family.reset(task, jax.random.key(0))
    _, seen, reward, _ = family.step(task, state, jnp.array([1.0]), jax.random.key(1))
    return first[0], seen[None], reward


def test_nan_stays_in_its_own_lane():
    """It is the policy's error: it shows in that episode's reward, and the neighbour does not notice."""
    made = family()

    def one_step(pushes):
        state, _ = jax.vmap(made.reset)(jnp.zeros(2), jax.random.split(jax.random.key(0)))
        return jax.vmap(made.step)(jnp.zeros(2), state, pushes[:, None], jax.random.split(jax.random.key(1)))

    (_, calm, calm_reward, _), (_, seen, reward, _) = (
        one_step(jnp.array([0.5, 1.0])),
        one_step(jnp.array([jnp.nan, 1.0])),
    )
    assert np.isnan(reward).tolist() == [True, False]
    np.testing.assert_array_equal(seen[1], calm[1])
    assert reward[1] == calm_reward[1]


def test_a_method_trains_on_it():
    made = family(model=lambda task, model: model.replace(body_mass=1.0 + task))
    policy = mrl.networks.mlp_policy(made.observation_shape, made.action, hidden_sizes=(4,))
    algorithm = mrl.algorithms.maml(made, policy, optax.adam(1e-3), inner_lr=0.1, episodes_per_task=3)
    state, keys = algorithm.init(jax.random.key(0)), jax.random.split(jax.random.key(1), 2)
    _, info = jax.jit(algorithm.update)(state, jax.vmap(made.sample)(keys), keys)
    assert np.isfinite(info["return"]).all()
    assert info["return"].shape == (2,)


def test_an_environment_that_does_not_fit_says_so():
    """One that keeps its model elsewhere would ignore the task's; one without ``state`` shows the policy nothing."""

    class Elsewhere(Slider):
        mjx_model = Model(jnp.array(1.0))

    class Blind(Slider):
        def _state(self, x, reward, info):
            state = super()._state(x, reward, info)
            return dataclasses.replace(state, obs={"pixels": state.obs["state"]})

    for env, message in ((Elsewhere(), "keeps its model elsewhere"), (Blind(), "observation = 'state': .*pixels")):
        with pytest.raises(ValueError, match=message):
            playground_family(env, sample=jax.random.uniform, horizon=3, model=lambda task, model: model.replace())


def test_observations_are_chosen_and_what_is_privileged_comes_last():
    made = family(observation=("state", "state"), critic_observation="privileged_state")
    assert (made.observation_shape, made.privileged_size) == ((9,), 5)
    _, seen = made.reset(0.0, jax.random.key(0))
    np.testing.assert_array_equal(seen, [seen[0], 1.0, seen[0], 1.0, *np.zeros(5)])


def test_a_last_observation_that_is_nan_leaves_a_finite_state():
    """0 / 0 where the slider ends is shown, but not carried; before that a NaN is carried, and tells of a failure."""

    class Undefined(Slider):
        def _state(self, x, reward, info):
            state = super()._state(x, reward, info)
            undefined = jnp.where(x > 2.0, jnp.nan, x)
            return dataclasses.replace(state, obs={"state": undefined[None]}, metrics={"x": undefined})

    made = playground_family(Undefined(), sample=jax.random.uniform, horizon=HORIZON)
    state, _ = made.reset(0.0, jax.random.key(0))
    for place, ends in ((2.9, True), (2.1, False)):  # half a metre on it is beyond 3, where it ends, or not
        before = dataclasses.replace(state, data=jnp.float32(place))
        after, seen, _, ended = made.step(0.0, before, jnp.ones(1), jax.random.key(1))
        assert bool(ended) == ends
        assert np.isnan(seen).all()
        assert bool(np.isfinite(after.metrics["x"])) == ends


@dataclasses.dataclass
class ServoModel(Model):
    """A model with an actuator that takes controls within +-50."""

    actuator_ctrlrange: jax.Array
    actuator_ctrllimited: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Data:
    x: jax.Array
    ctrl: jax.Array


@pytest.mark.parametrize("own_scale", [None, 50.0])
def test_actions_span_the_range_of_the_actuators_once(own_scale):
    class Servo(Slider):
        def __init__(self):
            super().__init__()
            self._mjx_model = ServoModel(jnp.array(2.0), jnp.array([[-50.0, 50.0]]), jnp.array([True]))

        def step(self, state, action):
            control = action if own_scale is None else own_scale * jnp.clip(action, -1.0, 1.0)
            return dataclasses.replace(state, data=Data(state.data.x + control[0], control))

        def _state(self, x, reward, info):
            return dataclasses.replace(super()._state(x, reward, info), data=Data(x, jnp.zeros(1)))

    made = playground_family(Servo(), sample=jax.random.uniform, horizon=HORIZON, action_scale=2.0)
    state, _ = made.reset(0.0, jax.random.key(0))
    after, *_ = made.step(0.0, state, jnp.array([1.0]), jax.random.key(1))
    assert after.data.ctrl.tolist() == [25.0]


@pytest.mark.parametrize(("name", "value"), [("horizon", 0), ("horizon", 2.5), ("action_scale", 0.0)])
def test_impossible_settings_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        family(**{name: value})


def test_without_playground_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_playground", None)
    with pytest.raises(ValueError, match=r"needs MuJoCo Playground .*: pip install metarl-jax\[playground\]"):
        load_playground("CheetahRun")


@pytest.mark.slow
def test_an_environment_of_playground():
    """Mass times one changes nothing, bit for bit; mass times two does; an unknown name gets the known ones."""
    pytest.importorskip("mujoco_playground")
    made = playground_family(
        load_playground("CartpoleBalance"),
        sample=lambda key: jax.random.uniform(key, minval=0.5, maxval=2.0),
        model=lambda task, model: model.replace(body_mass=task * model.body_mass),
        horizon=10,
    )
    policy = mrl.networks.mlp_policy(made.observation_shape, made.action, hidden_sizes=(4,))
    params = policy.init(jax.random.key(0))
    as_built = made._replace(
        step=playground_family(load_playground("CartpoleBalance"), sample=made.sample, horizon=10).step
    )
    play = {
        name: jax.jit(lambda task, family=family: rollout(family, policy, params, task, jax.random.key(1), 2))
        for name, family in (("changed", made), ("as_built", as_built))
    }
    same, heavier = play["changed"](jnp.float32(1.0)), play["changed"](jnp.float32(2.0))
    np.testing.assert_array_equal(same.percept.observation, play["as_built"](jnp.float32(0.0)).percept.observation)
    assert np.abs(same.percept.observation - heavier.percept.observation).max() > 1e-3
    assert (same.reward > 0).all()
    with pytest.raises(ValueError, match=r"environment = 'CartPole': choose one of .*CartpoleBalance"):
        load_playground("CartPole")
