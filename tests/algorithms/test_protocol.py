"""Every algorithm through the same protocol: init, adapt, update."""

import inspect
import math
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.algorithms.gradient.maml import maml
from metarl_jax.inner.rules import RULE
from metarl_jax.networks.belief import belief_policy
from metarl_jax.networks.in_context import in_context_policy
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.networks.normalised import MOMENTS, normalised_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.ops import trees
from metarl_jax.runs.shares import deal, join
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.tasks.wrappers.oracle import with_critic_oracle
from metarl_jax.types import ActionSpec, Agent, TrainState
from tests.helpers import traced

HORIZON, EPISODES, TASKS, STEPS = 5, 3, 2, 2
FAILS = ("never", "everywhere", "but in its reward", "always")
"""What a task's environment does in some of its episodes: its state and observation turn NaN, and it ends there."""


class Fragile(NamedTuple):
    """A task of navigation, and how its environment fails."""

    goal: Any
    how: jax.Array


def fragile(family):
    """The family with an environment that can fail; ``sample`` gives tasks in which it never does."""

    def sample(key):
        return Fragile(family.sample(key), jnp.int32(0))

    def reset(task, key):
        return family.reset(task.goal, key)

    def step(task, state, action, key):
        state, observation, reward, terminated = family.step(task.goal, state, action, key)
        always = task.how == FAILS.index("always")
        fails = (task.how > 0) & (always | (jax.random.uniform(jax.random.fold_in(key, 1)) < 0.1))
        state, observation = jax.tree.map(lambda x: jnp.where(fails, jnp.nan, x), (state, observation))
        reward = jnp.where(fails, jnp.where(task.how == FAILS.index("but in its reward"), 0.0, jnp.nan), reward)
        return state, observation, reward, terminated | fails

    def optimal_action(task, state, time):
        return family.optimal_action(task.goal, state, time)

    functions = {"reset": reset, "step": step, "optimal_action": optimal_action}
    return family._replace(sample=sample, sample_held_out=sample, **functions)


FAMILY = fragile(navigation_finn(horizon=HORIZON))
FAMILIES = {"varibad": fragile(with_critic_oracle(navigation_finn(horizon=HORIZON)))}
"""The same tasks, of a method whose value is told them."""
POLICY = normalised_policy(mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,)), (2,))
MEMORY = normalised_policy(recurrent_policy((2,), ActionSpec(2), hidden_size=4, memory_slots=4), (2,))

# With so little data the KL Hessian is nearly singular: undamped conjugate gradients turn rounding into another step.
EXTRA = {
    "trpo_maml": {"cg_damping": 1e-2, "cg_steps": 3},
    "trpo_rl2": {"cg_steps": 3},
    "varibad": {
        "meta_batch_size": TASKS,
        "num_minibatches": 1,
        "transition_coef": 1.0,
        "task_coef": 1.0,
        "num_contexts": 7,
        "novelty_coef": 0.1,
        "surprise_coef": 0.1,
        "normalize_rewards": True,
    },
    "rl2": {"num_epochs": 2, "num_minibatches": 1, "normalize_rewards": True},
    "ad": {"source": MEMORY},
}
POLICIES = {
    "cavia": normalised_policy(mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,), context_size=2), (2,)),
    "dpt": normalised_policy(in_context_policy((2,), ActionSpec(2), size=4, num_layers=1, num_heads=1), (2,)),
    "varibad": normalised_policy(
        belief_policy((4,), ActionSpec(2), latent_size=2, hidden_size=4, hidden_sizes=(4,), privileged_size=2), (4,)
    ),
}
# What each method does otherwise: data of one stage to train on, no outer surrogate, parameters that are not adapted.
TRAINING_STAGES = {"pretraining": 1}
NO_SURROGATE = {"reptile", "ad", "dpt"}
UNADAPTED = {"anil": {"log_std"}, "cavia": {"mean", "log_std"}}


def has_trials(name):
    """Whether the method adapts by remembering the episodes of a trial, not by gradient steps."""
    return "episodes_per_trial" in inspect.signature(ALGORITHMS[name]).parameters


def policy_of(name):
    return POLICIES.get(name, MEMORY if has_trials(name) else POLICY)


def make(name, family=None):
    family = FAMILIES.get(name, FAMILY) if family is None else family
    factory, policy = ALGORITHMS[name], policy_of(name)
    has_optimizer = "optimizer" in inspect.signature(factory).parameters
    arguments = (family, policy, optax.adam(1e-3)) if has_optimizer else (family, policy)
    stages = {"episodes_per_trial": STEPS + 1} if has_trials(name) else {"num_inner_steps": STEPS}
    return factory(*arguments, **stages, episodes_per_task=EPISODES, **EXTRA.get(name, {}))


class Compiled:
    """One algorithm with its jitted functions and their inputs, shared by the tests below."""

    def __init__(self, name):
        self.name, self.algorithm, self.has_trials = name, make(name), has_trials(name)
        self.initial_carry = policy_of(name).initial_carry
        self.traced = chex.assert_max_traces(self.algorithm.update, n=1)
        self.update = jax.jit(self.traced)
        self.state = jax.jit(self.algorithm.init)(jax.random.key(0))
        self.keys = jax.random.split(jax.random.key(1), TASKS)
        self.tasks = jax.vmap(FAMILY.sample)(self.keys)


@pytest.fixture(scope="module", params=ALGORITHMS)
def compiled(request):
    chex.clear_trace_counter()
    return Compiled(request.param)


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, left, right)


def test_init_gives_strong_types(compiled):
    """A weakly typed leaf would compile ``update`` again at the second call."""
    state = compiled.state
    assert isinstance(state, TrainState)
    assert state.step.dtype == jnp.int32
    assert state.step == 0
    assert not [leaf for leaf in jax.tree.leaves(state) if leaf.weak_type]
    made = traced(compiled.algorithm.init, jax.random.key(0))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(made))


def test_init_depends_on_the_key(compiled):
    """Other seeds, other parameters; the same seed, the same."""
    init = jax.jit(compiled.algorithm.init)
    assert_same(init(jax.random.key(0)), compiled.state)
    kernels = [init(jax.random.key(seed)).params["mean"]["Dense_0"]["kernel"] for seed in (0, 1)]
    assert not np.allclose(*kernels)


def test_updates_keep_structure_and_compile_once(compiled):
    """Three updates in a row: the state keeps its structure, shapes and types, ``step`` counts, parameters move."""
    state = compiled.state
    for i in range(1, 4):
        new_state, info = compiled.update(state, compiled.tasks, compiled.keys)
        chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
        assert new_state.step == i
        assert info["skipped"] == 0
        stages = TRAINING_STAGES.get(compiled.name, STEPS + 1)
        assert info["return"].shape == (stages,) == (compiled.algorithm.adaptation.stages_per_update,)
        assert info["policy_entropy"].shape == ()
        assert all(np.isfinite(value).all() for value in info.values())
        if compiled.name not in NO_SURROGATE:
            np.testing.assert_allclose(info["outer_ratio_error"], 0.0, atol=1e-5)
        assert not np.array_equal(new_state.params["log_std"], state.params["log_std"])
        state = new_state
    assert not [leaf for leaf in jax.tree.leaves(state) if leaf.weak_type]


def test_an_update_counts_each_observation_once(compiled):
    """Of all stages and tasks, but for episodes that are dropped; and learned inner rules know nothing of moments."""
    first, first_info = compiled.update(compiled.state, compiled.tasks, compiled.keys)
    state, info = compiled.update(first, failing(compiled.tasks, "everywhere"), compiled.keys)
    before, after = (one.params[MOMENTS] for one in (first, state))
    assert before.how_many == first_info["steps_taken"]
    kept = TASKS * EPISODES * len(info["return"]) - info["episodes_dropped"]
    assert 0 < after.how_many - before.how_many <= min(kept * HORIZON, info["steps_taken"] - 1)
    assert (before.squares > 0).all()
    assert (after.squares > before.squares).all()
    assert not [path for path in trees.by_path(state.params.get(RULE)) if MOMENTS in path]


def test_update_is_a_function_of_its_arguments(compiled):
    """The same state, tasks and keys give the same state bit for bit; other keys another one."""
    first, info = compiled.update(compiled.state, compiled.tasks, compiled.keys)
    again, info_again = compiled.update(compiled.state, compiled.tasks, compiled.keys)
    assert_same((first, info), (again, info_again))
    _, other = compiled.update(compiled.state, compiled.tasks, jax.random.split(jax.random.key(7), TASKS))
    assert not np.allclose(other["return"], info["return"], rtol=1e-6)


def test_an_update_that_is_not_finite_is_skipped_and_reported(compiled):
    """A policy that yields NaN must not change the parameters, the optimiser's state or the coefficients."""
    params = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), compiled.state.params)
    broken = compiled.state._replace(params=params)
    state, info = compiled.update(broken, compiled.tasks, compiled.keys)
    assert info["skipped"] == 1
    assert state.step == 1
    assert_same(state._replace(step=broken.step), broken)


def failing(tasks, name):
    return tasks._replace(how=jnp.full_like(tasks.how, FAILS.index(name)))


def test_an_environment_that_fails_for_a_moment_does_not_stop_learning(compiled):
    """The update is that of the episodes that are left, whatever the others' environments say when they fail."""
    (state, info), (again, other) = (
        compiled.update(compiled.state, failing(compiled.tasks, name), compiled.keys)
        for name in ("everywhere", "but in its reward")
    )
    assert_same((state, info), (again, other))
    episodes = TASKS * EPISODES * len(info["return"])
    assert 0 < info["episodes_dropped"] < episodes
    assert info["steps_taken"] < episodes * HORIZON
    assert info["skipped"] == 0
    assert all(np.isfinite(value).all() for value in info.values())
    assert not np.array_equal(state.params["log_std"], compiled.state.params["log_std"])


def test_where_every_episode_fails_nothing_is_learned_and_nothing_breaks(compiled):
    """The return is that of no episode, which alone is no reason to skip the update; optimisers may go on."""
    state, info = compiled.update(compiled.state, failing(compiled.tasks, "always"), compiled.keys)
    assert np.isnan(info["return"]).all()
    assert info["episodes_dropped"] == info["steps_taken"] == TASKS * EPISODES * len(info["return"])
    assert info["skipped"] == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    np.testing.assert_allclose(info["grad_norm"], 0.0, atol=1e-6)


def test_a_task_that_is_left_out_adds_nothing(compiled):
    """The return is that of the other task: with each of two left out in turn, their mean is that of both."""
    always = FAILS.index("always")
    infos = [
        compiled.update(compiled.state, compiled.tasks._replace(how=jnp.array(how)), compiled.keys)[1]
        for how in ([0, 0], [0, always], [always, 0])
    ]
    both, *ones = infos
    for info in ones:
        assert info["skipped"] == 0
        assert info["episodes_dropped"] == EPISODES * len(info["return"])
    np.testing.assert_allclose(both["return"], (ones[0]["return"] + ones[1]["return"]) / 2, rtol=1e-4)
    assert both["steps_taken"] == sum(info["steps_taken"] - info["episodes_dropped"] for info in ones)


def test_adapt_gives_an_agent_and_the_returns_of_every_episode(compiled):
    """``[K + 1, B]`` returns; the parameters keep their structure, and they, or the memory, have moved."""
    adapt = jax.jit(compiled.algorithm.adapt)
    task = FAMILY.sample(jax.random.key(3))
    agent, info = adapt(compiled.state.params, task, jax.random.key(4))
    assert isinstance(agent, Agent)
    assert info["return"].shape == (STEPS + 1, EPISODES)
    assert (info["return"] < 0).all()
    chex.assert_trees_all_equal_shapes_and_dtypes(agent.params, compiled.state.params)
    assert (compiled.algorithm.collect is None) == (compiled.algorithm.replay is None) == compiled.has_trials
    if compiled.has_trials:
        assert_same(agent.params, compiled.state.params)
        blank = jax.tree.leaves(compiled.initial_carry(EPISODES))
        moved = [(x != y).reshape(EPISODES, -1) for x, y in zip(jax.tree.leaves(agent.carry), blank, strict=True)]
        assert np.concatenate(moved, axis=1).any(axis=1).all()
        return
    unadapted = {RULE, MOMENTS, *UNADAPTED.get(compiled.name, ())}
    for name, moved in agent.params.items():
        same = jax.tree.map(lambda x, y: np.array_equal(x, y), moved, compiled.state.params[name])
        # The update rule's own parameters, and what a method leaves alone, stay; something in all others moves.
        assert all(jax.tree.leaves(same)) == (name in unadapted), name


def test_adapt_tells_which_episodes_the_task_ended(compiled):
    """With a reward of 1 for the step that ends an episode and 0 for all others, the return says the same.

    So does a measure of success that the steps that end an episode meet, and no others.
    """

    family = FAMILIES.get(compiled.name, FAMILY)

    def step(task, state, action, key):
        state, observation, _, _ = family.step(task, state, action, key)
        terminated = is_far(task, state)
        return state, observation, terminated.astype(float), terminated

    def is_far(task, state):
        return jnp.abs(state[0]) > 0.25

    algorithm = make(compiled.name, family._replace(step=step, success=is_far))
    keys = jax.random.split(jax.random.key(0), 10)
    adapt = jax.jit(jax.vmap(algorithm.adapt, in_axes=(None, 0, 0)))
    info = adapt(compiled.state.params, jax.vmap(FAMILY.sample)(keys), keys)[1]
    assert info["terminated"].shape == (10, STEPS + 1, EPISODES)
    assert 0.1 < info["terminated"].mean() < 0.9
    np.testing.assert_array_equal(info["terminated"], info["return"])
    np.testing.assert_array_equal(info["success"], info["terminated"])


def test_a_method_declares_how_it_adapts(compiled):
    """With another budget it adapts as much as it is told to, all else being the same."""
    adaptation = compiled.algorithm.adaptation
    assert adaptation.unit == ("episode" if compiled.has_trials else "gradient step")
    assert adaptation.trained == TRAINING_STAGES.get(compiled.name, STEPS + 1) - 1
    for units in (0, STEPS + 2):
        algorithm = adaptation.with_budget(units, EPISODES + 1, "finn")
        _, info = jax.eval_shape(
            algorithm.adapt, compiled.state.params, FAMILY.sample(jax.random.key(0)), compiled.keys[0]
        )
        assert info["return"].shape == (units + 1, EPISODES + 1)
        assert "success" not in info, "no function of the family measures it"
        sizes = () if compiled.has_trials else (0.1, 0.05, 0.05, 0.05)[:units]
        assert algorithm.adaptation.step_sizes == sizes


def test_devices_share_the_tasks(compiled):
    """Two devices with a task each (vmap stands in) make the update that one makes with both, and agree.

    Also where their numbers of valid steps differ: what is averaged are steps, not devices.
    """

    def update(share, task, key):
        one = jax.tree.map(lambda x: x[None], (task, key))
        return compiled.algorithm.update(compiled.state._replace(local=share), *one, axis_name="devices")

    local, shared = deal(compiled.state.local, 2), jax.jit(jax.vmap(update, axis_name="devices"))
    how = jnp.array([0, FAILS.index("everywhere")])
    for tasks in (compiled.tasks, compiled.tasks._replace(how=how)):
        states, infos = shared(local, tasks, compiled.keys)
        expected, info = compiled.update(compiled.state, tasks, compiled.keys)
        for left, right in zip(jax.tree.leaves(join(states.local)), jax.tree.leaves(expected.local), strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
        for device in range(2):
            for left, right in zip(jax.tree.leaves(states.params), jax.tree.leaves(expected.params), strict=True):
                np.testing.assert_allclose(left[device], right, rtol=1e-3, atol=2e-5)
            for name in info.keys() - {"outer_ratio_error", "cg_residual"}:  # rounding
                np.testing.assert_allclose(infos[name][device], info[name], rtol=2e-3, atol=1e-5, err_msg=name)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators take all tasks at once")
@pytest.mark.parametrize(("on_host", "task_chunk", "lanes"), [(False, None, 60), (True, None, 120), (True, 2, 10)])
def test_steps_on_the_host_come_from_as_many_tasks_as_there_are(on_host, task_chunk, lanes):
    """24 tasks of 5 episodes: all at once, where other families go in two halves, not to exceed 100 episodes."""
    seen = set()

    def count(state):
        seen.add(math.prod(state.shape[:-1]))
        return state

    def step(task, state, action, key):
        state, observation, reward, terminated = FAMILY.step(task, state, action, key)
        shape = jax.ShapeDtypeStruct(observation.shape, observation.dtype)
        observation = jax.pure_callback(count, shape, observation, vmap_method="broadcast_all")
        return state, observation, reward, terminated

    family = FAMILY._replace(step=step, on_host=on_host)
    settings = {"inner_lr": 0.1, "episodes_per_task": 5, "task_chunk": task_chunk}
    algorithm = maml(family, POLICY, optax.sgd(0.1), **settings)
    keys = jax.random.split(jax.random.key(0), 24)
    update = jax.jit(algorithm.update)
    jax.block_until_ready(update(algorithm.init(keys[0]), jax.vmap(FAMILY.sample)(keys), keys))
    assert max(seen) == lanes
