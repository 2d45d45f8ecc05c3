"""The bound: its exact value where that is known, its gradient, what it leaves out, and what it draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.algorithms.inference.elbo import Elbo, negative_elbo, step_kl
from metarl_jax.algorithms.inference.model import Model, Weights, make_model, steps_of
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.networks.belief import belief_policy
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.types import ActionSpec, Percept

FAMILY = navigation_finn(horizon=3)
STEPS, TRIALS, LATENT = 6, 4, 2
STENCIL = 1e-5


def experience(trials=TRIALS, dtype=jnp.float32):
    """Two episodes of three steps; the first of trial 1 has failed, the second of trial 2 ends after its first step."""
    rng = np.random.default_rng(0)
    percept = Percept(
        rng.normal(size=(STEPS + 1, trials, 2)),
        rng.normal(size=(STEPS + 1, trials, 2)),
        rng.normal(size=(STEPS + 1, trials)),
        np.arange(STEPS + 1)[:, None] % 3 * np.ones(trials) == 0,
    )
    mask = np.ones((STEPS, trials))
    mask[:3, 1 % trials] = 0.0
    mask[4:, 2 % trials] = 0.0
    percept = percept._replace(done=np.where(np.arange(STEPS + 1)[:, None] == STEPS, 0.0, percept.done))
    return jax.tree.map(lambda x: jnp.asarray(x, dtype), Experience(percept, mask))


def beliefs(trials=TRIALS):
    keys = jax.random.split(jax.random.key(1))
    shape = (STEPS + 1, trials, LATENT)
    return GaussianParams(jax.random.normal(keys[0], shape), 0.5 * jax.random.normal(keys[1], shape))


def telling_by_one_number(params, latent, steps):
    """The reward of a step is told to be the latent's first number."""
    return {"reward": steps.counts * jnp.square(latent[:, None, :, 0] - steps.reward)}


bound = jax.jit(negative_elbo, static_argnums=0)
BY_ONE_NUMBER = Model(lambda key: {}, telling_by_one_number)


def expected_loss(seen, belief, kl_weight):
    """Of that model, written out: ``E (m - r)^2 = (mean - r)^2 + std^2``."""
    mean, std = np.asarray(belief.mean), np.exp(np.asarray(belief.log_std))
    reward, mask = np.asarray(seen.percept.previous_reward[1:]), np.asarray(seen.mask)
    told, diverged, count = 0.0, 0.0, 0
    for trial in range(mask.shape[1]):
        before_mean, before_std = np.zeros(LATENT), np.ones(LATENT)
        for t in range(STEPS + 1):
            if not mask[min(t, STEPS - 1), trial]:
                continue
            m, s = mean[t, trial], std[t, trial]
            told += sum(mask[u, trial] * ((m[0] - reward[u, trial]) ** 2 + s[0] ** 2) for u in range(STEPS))
            squared = (s**2 + (m - before_mean) ** 2) / (2 * before_std**2)
            diverged += np.sum(np.log(before_std / s) + squared - 0.5)
            before_mean, before_std, count = m, s, count + 1
    return told / count + kl_weight * diverged / count


@pytest.mark.parametrize(("num_contexts", "num_decoded"), [(None, None), (3, None), (None, 2), (3, 2)])
def test_it_has_its_exact_value_on_average_over_what_is_drawn(num_contexts, num_decoded):
    """Trials are the same four 20,000 times over; with fewer beliefs or steps it is an estimate without bias."""
    seen, belief = experience(), beliefs()
    elbo = Elbo(BY_ONE_NUMBER, FAMILY.action, 0.3, num_contexts, num_decoded)
    keys = jax.random.split(jax.random.key(2), (20_000, TRIALS))
    values = jax.jit(jax.vmap(lambda keys: negative_elbo(elbo, {}, belief, seen, keys)[1]["reward_loss"]))(keys)
    # Of fewer beliefs the mean is one of ratios, whose bias of order 1 / trials shows with masks: all trials at once.
    if num_contexts is not None:
        many_seen, many_belief = (
            jax.tree.map(lambda x: jnp.tile(x, (1, 20_000, *[1] * (x.ndim - 2))), tree) for tree in (seen, belief)
        )
        # Not compiled: in one loop, a million numbers added one after the other are too many for single precision.
        values = negative_elbo(elbo, {}, many_belief, many_seen, keys.reshape(-1))[1]["reward_loss"]
    _, info = bound(elbo, {}, belief, seen, keys[0])
    found = np.mean(values) + 0.3 * info["belief_kl"]
    np.testing.assert_allclose(found, expected_loss(seen, belief, 0.3), rtol=0.02)


def test_the_divergence_is_from_the_last_belief_that_counts():
    """What a belief is in between does not matter, and of none before it is from the prior."""
    belief, counts = beliefs(), jnp.asarray(np.r_[1, 0, 0, 1, 1, 0, 1][:, None] * np.ones(TRIALS))
    moved = jax.tree.map(lambda x: x.at[1].add(3.0), belief)
    kl, other = step_kl(belief, counts), step_kl(moved, counts)
    np.testing.assert_array_equal(kl[counts > 0], other[counts > 0])
    among = jax.tree.map(lambda x: x[jnp.array([0, 3, 4, 6])], belief)
    np.testing.assert_allclose(step_kl(among, jnp.ones((4, TRIALS))), kl[jnp.array([0, 3, 4, 6])], rtol=1e-5)


def model_of(family=FAMILY, **settings):
    given = {"form": "joint", "reward_model": "gaussian", "reward_given": ("state", "action", "next_state")}
    return make_model(family, LATENT, hidden_sizes=(5, 4), **{**given, "weights": Weights(1.0, 0.5), **settings})


def test_what_a_critic_alone_may_see_tells_nothing():
    """Neither of rewards nor of next states: a latent has to."""
    family = FAMILY._replace(privileged_size=1)
    model = model_of(family)
    seen, belief, params = experience(), beliefs(), jax.jit(model.init)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(3), TRIALS)
    loss = jax.jit(lambda seen: negative_elbo(Elbo(model, FAMILY.action, 0.1), params, belief, seen, keys)[0])
    changed = seen.percept.observation.at[..., 1].add(9.0)
    assert loss(seen) == loss(seen._replace(percept=seen.percept._replace(observation=changed)))


def test_a_task_is_told_by_the_latent_alone():
    """The error is that of one number, the last of two of an observation, at every step that counts."""
    model = model_of(FAMILY._replace(privileged_size=1, task_size=1), form="product", weights=Weights(None, None, 2.0))
    params, (percept, mask) = jax.jit(model.init)(jax.random.key(0)), experience()
    latent = beliefs().mean[:3]
    (errors,) = model.errors(params, latent, steps_of(experience(), FAMILY.action)).values()
    layers = [params["task"]["latent"][f"Dense_{i}"] for i in range(3)]
    for layer in layers[:-1]:
        latent = jax.nn.relu(latent @ layer["kernel"] + layer["bias"])
    told = (latent @ layers[-1]["kernel"] + layers[-1]["bias"])[..., 0]
    missed = told[:, None] - percept.observation[:-1, :, 1]
    np.testing.assert_allclose(errors, 2.0 * mask * missed**2, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (Weights(task=1.0), "task_coef = 1.0: the value has to see the task .* tasks.critic_oracle"),
        (Weights(None), "reward_coef = None: a belief about nothing"),
    ],
)
def test_what_cannot_be_told_is_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        model_of(weights=weights)


@pytest.mark.parametrize("form", ["joint", "product"])
def test_what_does_not_count_changes_nothing(form):
    """Rewards and states of steps that do not count, and the observation after an episode's last step."""
    seen, belief, model = experience(), beliefs(), model_of(form=form)
    params, elbo = jax.jit(model.init)(jax.random.key(0)), Elbo(model, FAMILY.action, 0.1)
    keys = jax.random.split(jax.random.key(3), TRIALS)
    percept = seen.percept
    other = seen._replace(
        percept=percept._replace(
            previous_reward=percept.previous_reward.at[1:4, 1].add(9.0).at[5:, 2].add(9.0),
            observation=percept.observation.at[:3, 1].add(9.0).at[6, 2].add(9.0),
        )
    )
    loss = jax.jit(lambda seen: negative_elbo(elbo, params, belief, seen, keys)[0])
    np.testing.assert_array_equal(loss(seen), loss(other))
    counted = seen._replace(percept=percept._replace(previous_reward=percept.previous_reward.at[2, 0].add(9.0)))
    assert abs(loss(counted) - loss(seen)) > 0.1


def test_a_positive_reward_is_all_that_bernoulli_tells():
    """The cross-entropy of its output, which is minus log of a half for an output of zero."""
    model = model_of(reward_model="bernoulli", reward_given=("next_state",), weights=Weights(1.0))
    params = jax.tree.map(jnp.zeros_like, jax.jit(model.init)(jax.random.key(0)))
    elbo, keys = Elbo(model, FAMILY.action, 0.0), jax.random.split(jax.random.key(3), 1)
    seen, belief = experience(trials=1), beliefs(trials=1)
    whole = seen._replace(mask=jnp.ones_like(seen.mask))
    loss, _ = bound(elbo, params, belief, whole, keys)
    np.testing.assert_allclose(loss, 5 * np.log(2.0), rtol=1e-5)  # the next state of the third step is not known


@pytest.mark.slow
def test_its_gradient_is_that_of_finite_differences():
    """By encoder and decoders, through the draws, in float64."""
    policy = belief_policy((2,), ActionSpec(2), latent_size=LATENT, hidden_size=3, hidden_sizes=(3,))
    with jax.enable_x64(True):
        model, seen = model_of(), experience(dtype=jnp.float64)
        elbo, keys = Elbo(model, FAMILY.action, 0.1, 4, 5), jax.random.split(jax.random.key(4), TRIALS)
        params = {"encoder": policy.init(jax.random.key(0))["encoder"], "decoder": model.init(jax.random.key(1))}
        flat, unravel = ravel_pytree(jax.tree.map(lambda x: x.astype(float), params))
        flat += 0.3 * jax.random.normal(jax.random.key(5), flat.shape)  # biases too: no relu is at its kink

        @jax.jit
        def loss(flat):
            params = unravel(flat)
            belief = policy.belief.infer(params, seen.percept)
            return negative_elbo(elbo, params["decoder"], belief, seen, keys)[0]

        for seed in range(4):
            direction = jax.random.normal(jax.random.key(seed), flat.shape)
            slope = (loss(flat + STENCIL * direction) - loss(flat - STENCIL * direction)) / (2 * STENCIL)
            np.testing.assert_allclose(jax.grad(loss)(flat) @ direction, slope, rtol=1e-5)
