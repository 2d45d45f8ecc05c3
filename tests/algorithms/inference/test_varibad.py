"""VariBAD: what is trained by what, what is kept, what it refuses, and the bonuses of HyperX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.algorithms.inference.bonuses import SURPRISE, make_bonuses
from metarl_jax.algorithms.inference.model import Model
from metarl_jax.algorithms.inference.novelty import NOVELTY, Novelty
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.algorithms.inference.varibad import varibad
from metarl_jax.checks import Refusal
from metarl_jax.networks.belief import belief_policy
from metarl_jax.networks.recurrent import recurrent_policy
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.types import Percept

FAMILY = navigation_finn(horizon=3)
TASKS, TRIALS = 2, 3
INFERRING = {"encoder", "decoder"}


def make(step_size=0.0, **settings):
    policy = belief_policy((2,), FAMILY.action, latent_size=2, hidden_size=3, hidden_sizes=(3,))
    sizes = {"meta_batch_size": TASKS, "episodes_per_task": TRIALS, "replay_updates": 2, "num_minibatches": 1}
    return varibad(FAMILY, policy, optax.sgd(step_size), **{**sizes, **settings})


@pytest.mark.slow
def test_the_bound_trains_what_infers_alone_and_all_trials_are_kept():
    """With a step size of zero for PPO what acts stays bit for bit; the replay has the rewards that were reported."""
    algorithm, keys = make(inference_lr=0.1), jax.random.split(jax.random.key(1), TASKS)
    state = algorithm.init(jax.random.key(0))
    new_state, info = jax.jit(algorithm.update)(state, jax.vmap(FAMILY.sample)(keys), keys)
    moved = {
        name: any((a != b).any() for a, b in zip(*map(jax.tree.leaves, (part, state.params[name])), strict=True))
        for name, part in new_state.params.items()
    }
    assert {name for name, has_moved in moved.items() if has_moved} == INFERRING
    replay = new_state.local
    assert replay.mask[:, 0].all()
    assert not replay.mask[:, 1].any()
    rewards = replay.percept.previous_reward[:, 0, 1:].reshape(TASKS * TRIALS, -1, FAMILY.horizon)
    np.testing.assert_allclose(rewards.sum(-1).mean(0), info["return"], rtol=1e-5)


@pytest.mark.slow
def test_minibatches_of_steps_are_those_of_trials_shuffled_more():
    """One epoch and one minibatch move what acts alike, in chunks or not; of 36 steps there are 36 minibatches."""
    keys = jax.random.split(jax.random.key(1), TASKS)
    tasks = jax.vmap(FAMILY.sample)(keys)

    def moved(**settings):
        algorithm = make(step_size=0.1, **settings)
        state, info = jax.jit(algorithm.update)(algorithm.init(jax.random.key(0)), tasks, keys)
        np.testing.assert_allclose(info["outer_ratio_error"], 0.0, atol=1e-5)
        return ravel_pytree(state.params)[0]

    whole = moved(num_epochs=1)
    np.testing.assert_allclose(moved(num_epochs=1, chunk_length=1), whole, rtol=1e-4, atol=1e-6)
    assert np.abs(moved(num_epochs=1, chunk_length=1, num_minibatches=36) - whole).max() > 1e-3
    with pytest.raises(ValueError, match=r"chunk_length = 4: must divide the 6 steps of a trial"):
        moved(chunk_length=4)


def test_a_policy_without_a_belief_is_refused():
    with pytest.raises(Refusal, match=r"policy = 'without a belief': .* set policy\.name to belief"):
        varibad(FAMILY, recurrent_policy((2,), FAMILY.action), optax.sgd(0.1), meta_batch_size=1)


def test_bonuses_are_in_units_of_their_deviation_and_fade():
    """Of novelties 1 to 4 and of equal surprises: the first divided by their deviation, the second by the least one."""
    novelty = Novelty(lambda key: {}, lambda params, percept, belief: percept.observation[..., 0])
    model = Model(lambda key: {}, lambda params, latent, steps: {"reward": jnp.full(steps.reward.shape, 0.5)[None]})
    bonuses = make_bonuses({NOVELTY: 2.0, SURPRISE: None}, 4, novelty, model, FAMILY.action)
    observation = jnp.array([0.0, 1.0, 2.0, 3.0, 4.0, 100.0]).reshape(6, 1, 1) * jnp.ones((1, 1, 2))
    flat = jnp.zeros((6, 1))
    mask = jnp.ones((5, 1)).at[4].set(0.0)
    seen = Experience(Percept(observation, jnp.zeros((6, 1, 2)), flat, flat), mask)
    belief, reward = GaussianParams(*2 * [jnp.zeros((6, 1, 2))]), jnp.ones((5, 1))
    given = ({NOVELTY: {}, "decoder": {}}, seen, belief)
    shaped, moments, info = bonuses.add(reward, *given, bonuses.no_moments(), jnp.int32(1))
    expected = 1.0 + 0.75 * 2.0 * np.array([1.0, 2.0, 3.0, 4.0]) / np.std([1.0, 2.0, 3.0, 4.0])
    np.testing.assert_allclose(shaped[:, 0], [*expected, 1.0], rtol=1e-5)
    assert info["novelty"] == 2.5
    gone, *_ = bonuses.add(reward, *given, moments, jnp.int32(4))
    np.testing.assert_array_equal(gone, reward)

    surprised = make_bonuses({NOVELTY: None, SURPRISE: 1e-4}, None, None, model, FAMILY.action)
    shaped, _, info = surprised.add(reward, *given, surprised.no_moments(), jnp.int32(9))
    assert info["surprise"] == 0.5
    np.testing.assert_allclose(shaped[:, 0], [1.5, 1.5, 1.5, 1.5, 1.0], rtol=1e-5)
