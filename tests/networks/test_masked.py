"""Actions that an observation does not allow: never taken, and nothing that is computed of them is not finite."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import rl2, trpo_maml
from metarl_jax.checks import Refusal
from metarl_jax.config import config_from_dict
from metarl_jax.export.folder import Adapted, export_run
from metarl_jax.export.policy import Policy as Exported
from metarl_jax.networks import conv_policy, masked_policy, mlp_policy, normalised_policy, recurrent_policy
from metarl_jax.runs.build import build
from metarl_jax.runs.run import Run
from metarl_jax.tasks import navigation_finn
from metarl_jax.tasks.wrappers.oracle import with_critic_oracle, with_oracle
from metarl_jax.types import ActionSpec, Agent, Percept, TaskFamily

ACTIONS = ActionSpec(3, discrete=True)
SHAPE = (2, 2, 3)
MAKERS = {
    "mlp": lambda shape: mlp_policy(shape, ACTIONS, hidden_sizes=(4,), critic_hidden_sizes=(4,)),
    "conv": lambda shape: conv_policy(shape, ACTIONS, kernel_size=1, channels=(2,), hidden_sizes=(4,)),
    "recurrent": lambda shape: recurrent_policy(shape, ACTIONS, hidden_size=3),
}


def closed_doors(*, horizon: int = 4) -> TaskFamily:
    """A hall with three doors, of which the observation shows the open ones; to run into another one breaks the world.

    A task is the door that pays.
    """

    def doors(key):
        return jnp.zeros(3).at[jax.random.permutation(key, 3)[:2]].set(1.0)

    def reset(task, key):
        open_ones = doors(key)
        return open_ones, open_ones

    def step(task, state, action, key):
        reward = jnp.where(state[action] > 0, (action == task).astype(float), jnp.nan)
        after = doors(key)
        return after, after, reward, jnp.array(False)

    def sample(key):
        return jax.random.randint(key, (), 0, 3)

    return TaskFamily(
        sample, sample, reset, step, (3,), ACTIONS, horizon, valid_actions=lambda observation: observation > 0
    )


def percepts(observation):
    leading = observation.shape[: -len(SHAPE)]
    return Percept(observation, jnp.zeros(leading, int), *jnp.zeros((2, *leading)))


@pytest.mark.parametrize("name", MAKERS)
def test_invalid_actions_are_never_taken_and_the_rest_share_their_probability(name):
    """Of what each observation shows: one valid action, two, all, or none, which is as if nothing were known."""
    plain = MAKERS[name](SHAPE)
    policy = masked_policy(plain, ACTIONS, lambda observation: observation[..., 0, 0, :] > 0)
    valid = jnp.array([[0, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]], bool)
    observation = jax.random.normal(jax.random.key(1), (4, *SHAPE)).at[:, 0, 0].set(valid)
    params, carry = jax.jit(plain.init)(jax.random.key(0)), plain.initial_carry(4)

    @jax.jit
    def look(key):
        seen = percepts(observation)
        action, log_prob, logits, _ = policy.act(params, carry, seen, key)
        own, _, own_logits, _ = plain.act(params, carry, seen, key)
        evaluated, _ = policy.evaluate(params, carry, jax.tree.map(lambda x: x[None], seen))
        entropy, mode = policy.distribution.entropy(logits), policy.distribution.mode(logits)
        return action, log_prob, logits, own, own_logits, evaluated[0], entropy, mode

    keys = jax.random.split(jax.random.key(2), 200)
    action, log_prob, logits, own, own_logits, evaluated, entropy, mode = jax.vmap(look)(keys)
    np.testing.assert_allclose(evaluated, logits, rtol=1e-5, atol=1e-6)
    assert (action[:, 0] == 1).all()
    assert set(np.unique(action[:, 1])) == {0, 2}
    np.testing.assert_array_equal(action[:, 2], own[:, 2])
    assert valid[:3][jnp.arange(3), mode[0, :3]].all()
    kept = jnp.exp(own_logits[0]) * valid
    expected = np.where(valid.any(-1, keepdims=True), kept / np.maximum(kept.sum(-1, keepdims=True), 1e-9), 1 / 3)
    np.testing.assert_allclose(jax.nn.softmax(logits[0]), expected, rtol=1e-4)
    of_taken = np.take_along_axis(expected[None], np.asarray(action)[..., None], -1)[..., 0]
    np.testing.assert_allclose(log_prob, np.log(of_taken), rtol=1e-4, atol=1e-5)
    nats = -np.sum(expected * np.log(np.maximum(expected, 1e-30)), -1)
    np.testing.assert_allclose(entropy[0], nats, rtol=1e-4, atol=1e-5)


def test_what_is_computed_of_invalid_actions_is_finite():
    """Divergence, entropy, log-probabilities, of invalid actions too, and their first and second derivatives."""
    plain = MAKERS["mlp"](SHAPE)
    policy = masked_policy(plain, ACTIONS, lambda observation: observation[..., 0, 0, :] > 0)
    observation = jnp.ones((1, 2, *SHAPE)).at[0, 0, 0, 0].set(jnp.array([1.0, 1.0, -1.0]))
    seen = percepts(observation)
    distribution = policy.distribution
    params, other = (jax.jit(plain.init)(jax.random.key(i)) for i in range(2))

    def everything(params):
        (p, _), (q, _) = (policy.evaluate(one, (), seen) for one in (params, other))
        invalid = distribution.log_prob(p, jnp.full((1, 2), 2))
        return (distribution.kl(p, q) + distribution.kl(q, p) + distribution.entropy(p)).sum() + 1e-9 * invalid.sum()

    @jax.jit
    def derivatives(params):
        gradient = jax.grad(everything)
        return everything(params), *jax.jvp(gradient, (params,), (other,))

    results = derivatives(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))
    assert any(leaf.any() for leaf in jax.tree.leaves(results[1]))


def open_doors_only(plain):
    """The policy for closed doors, its observations normalised."""
    return masked_policy(normalised_policy(plain, (3,)), ACTIONS, closed_doors().valid_actions)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["rl2", "trpo_maml"])
def test_methods_never_step_into_a_closed_door(method):
    """A method with a memory and one with second derivatives: an invalid action would be an episode that is dropped."""
    family = closed_doors()
    if method == "rl2":
        policy = open_doors_only(MAKERS["recurrent"]((3,)))
        algorithm = rl2(family, policy, optax.adam(1e-2), episodes_per_task=4, num_minibatches=1)
    else:
        policy = open_doors_only(mlp_policy((3,), ACTIONS, hidden_sizes=(4,)))
        algorithm = trpo_maml(family, policy, episodes_per_task=4, cg_steps=2)
    keys = jax.random.split(jax.random.key(1), 4)
    state, update = jax.jit(algorithm.init)(jax.random.key(0)), jax.jit(algorithm.update)
    for _ in range(2):
        state, info = update(state, jax.vmap(family.sample)(keys), keys)
        assert info["episodes_dropped"] == info["skipped"] == 0
        np.testing.assert_allclose(info["outer_ratio_error"], 0.0, atol=1e-5)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state, info)))


@pytest.mark.parametrize(("wrapper", "place"), [(with_oracle, 2), (with_critic_oracle, 3)])
def test_an_oracle_hands_over_what_the_family_itself_shows(wrapper, place):
    family = closed_doors()._replace(privileged_size=1)
    shown = wrapper(family)
    task, key = jnp.array(2), jax.random.key(3)
    _, own = family.reset(task, key)
    _, observation = shown.reset(task, key)
    np.testing.assert_array_equal(observation, [*own[:place], 2.0, *own[place:]])
    np.testing.assert_array_equal(shown.valid_actions(observation), own > 0)
    assert wrapper(family._replace(valid_actions=None)).valid_actions is None


def test_a_config_masks_whatever_policy_it_names_and_so_does_its_export(write_module, tmp_path) -> None:
    """With normalised observations, which the mask does not see; numpy's program takes valid actions alone."""
    write_module("doors", "from tests.networks.test_masked import closed_doors as doors\n")
    tree = {
        "tasks": {"name": "doors:doors"},
        "policy": {"hidden_sizes": [4], "normalize_observations": True},
        "algorithm": {"name": "maml"},
    }
    experiment = build(config_from_dict(tree))
    params = jax.jit(experiment.algorithm.init)(jax.random.key(0)).params
    params["logits"]["Dense_1"]["bias"] = jnp.array([9.0, 0.0, 1.0])
    run = Run(experiment.config, experiment.family, experiment.policy, experiment.algorithm, params, 0)
    export_run(run, tmp_path / "out", Adapted(Agent(params, ()), {}))
    for engine in ("numpy", "jax"):
        exported = Exported(tmp_path / "out", engine)
        action, _ = exported.act(exported.reset(2), np.array([[1, 0, 1], [0, 1, 1]], np.float32))
        assert action.tolist() == [0, 2]
        drawn, _ = exported.act(exported.reset(50), np.tile([0.0, 1.0, 1.0], (50, 1)), np.random.default_rng(0))
        assert 0 not in drawn


def test_impossible_masks_are_refused():
    family = navigation_finn()
    with pytest.raises(Refusal, match=r"action\.discrete = False: valid_actions .* leave it out"):
        masked_policy(mlp_policy((2,), family.action), family.action, lambda observation: observation > 0)
    policy = masked_policy(MAKERS["mlp"](SHAPE), ACTIONS, lambda observation: observation[..., 0, 0, :2] > 0)
    with pytest.raises(Refusal, match=r"valid_actions\(observation\)\.shape = \(1, 2\): .* each of 3 actions"):
        jax.eval_shape(
            policy.evaluate, jax.eval_shape(policy.init, jax.random.key(0)), (), percepts(jnp.ones((1, *SHAPE)))
        )
