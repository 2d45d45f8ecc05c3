"""Meta-gradients, in float64: against finite differences, independent formulas and sums over all trajectories."""

import functools
import itertools
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from metarl_jax.algorithms.gradient.assembly import (
    count_tasks,
    make_meta_loss,
    mean_value_and_grad,
    signal_to_noise,
    with_outer_kl,
)
from metarl_jax.algorithms.gradient.emaml import emaml_loss
from metarl_jax.algorithms.gradient.maml import maml, maml_objective
from metarl_jax.algorithms.gradient.ppo_maml import ppo_maml
from metarl_jax.algorithms.gradient.pretraining import pretraining
from metarl_jax.algorithms.gradient.promp import promp, promp_objective
from metarl_jax.algorithms.gradient.trust_region import make_kl_product, make_mean_kl
from metarl_jax.inner import Evaluation, make_inner_loop
from metarl_jax.inner.rules import RULE, learned_step_sizes
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.ops import trees
from metarl_jax.ops.distributions import GaussianParams, categorical
from metarl_jax.ops.returns import discounted_return
from metarl_jax.ops.surrogates import Estimator, ratio
from metarl_jax.tasks.navigation.goals import NavigationTask, navigation_finn
from metarl_jax.types import ActionSpec, Batch, Percept, Policy, Trajectory

# These programs are tiny: nearly all their time is compilation, so do not optimise them.

HORIZON, EPISODES = 5, 3
ETA = (0.7, 0.4)
CLIP_EPS = 0.3
STENCIL = 1e-4


@pytest.fixture(scope="module", autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def make_policy(has_critic):
    return mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,), critic_hidden_sizes=(3,) if has_critic else None)


def initial(policy, seed):
    return jax.tree.map(lambda x: x.astype(float), jax.jit(policy.init)(jax.random.key(seed)))


def make_loop(num_inner_steps=1, estimator="log_likelihood", has_critic=False, **settings):
    # Saturated actions and a goal one move away: some episodes terminate, so masks matter.
    family = navigation_finn(horizon=HORIZON, action_scale=0.05)
    hyperparameters = {
        "inner_lr": 0.4, "episodes_per_task": EPISODES, "discount": 0.95, "gae_lambda": 0.9,
        "baseline": "critic" if has_critic else "linear_feature", **settings,
    }  # fmt: skip
    return make_inner_loop(
        family,
        make_policy(has_critic),
        estimator=estimator,
        num_inner_steps=num_inner_steps,
        **hyperparameters,
    )


class Data(NamedTuple):
    """The parameters that collected, nearby ones, and four stages ``[M, T, B, ...]`` of three inner steps."""

    sampling: dict
    nearby: dict
    stages: tuple


TASKS = NavigationTask(np.array([[0.1, 0.1], [-0.1, 0.1]]))


@pytest.fixture(scope="module")
def data(_float64):
    loop = make_loop(3, has_critic=True)
    sampling = initial(make_policy(True), 0)
    flat, unravel = ravel_pytree(sampling)
    nearby = unravel(flat + 0.15 * jax.random.normal(jax.random.key(1), flat.shape))
    keys = jax.random.split(jax.random.key(11), 2)
    _, stages = jax.jit(jax.vmap(loop.collect, in_axes=(None, 0, 0)))(sampling, TASKS, keys)
    assert stages[-1].advantage.dtype == np.float64, "the library must keep double precision when asked for it"
    for batch in stages:
        assert 0.5 < batch.trajectory.mask.mean() < 1.0, "the data must hold episodes that ended early"
    return Data(sampling, nearby, stages)


def select(params, has_critic):
    return params if has_critic else {name: value for name, value in params.items() if name != "value"}


def directions_for(size):
    random = np.random.default_rng(0).normal(size=(3, size))
    return np.concatenate([np.eye(size), random / np.linalg.norm(random, axis=1, keepdims=True)])


def stencil(x, directions):
    """The points ``[5, D, n]`` from which :func:`central_differences` takes derivatives; the middle one is ``x``."""
    offsets = jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0]) * STENCIL
    return x + offsets[:, None, None] * directions


def central_differences(values):
    """Derivatives along each direction, to fourth order in the step, from the values ``[5, D, ...]`` at the stencil."""
    return jnp.tensordot(jnp.array([1.0, -8.0, 0.0, 8.0, -1.0]) / (12.0 * STENCIL), values, axes=1)


def assert_close(actual, expected, rtol=1e-6):
    scale = np.max(np.abs(expected))
    assert scale > 1e-6, "nothing to compare"
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=1e-3 * rtol * scale)


def flat_meta_loss(loop, objective, params, stages, aux):
    """The mean loss over tasks as a function of a vector."""
    flat, unravel = ravel_pytree(params)
    meta_loss = make_meta_loss(loop, objective)

    def loss(x):
        losses, info = jax.vmap(meta_loss, in_axes=(None, 0, None))(unravel(x), stages, aux)
        return jnp.mean(losses), info

    return flat, loss


def check_meta_gradient(loop, objective, params, stages, aux):
    flat, loss = flat_meta_loss(loop, objective, params, stages, aux)
    directions = directions_for(flat.size)

    everywhere = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(loss, has_aux=True))))
    (losses, info), gradients = everywhere(stencil(flat, directions))
    assert_close(directions @ gradients[2, 0], central_differences(losses))
    return jax.tree.map(lambda x: x[2, 0], info)


CASES = list(itertools.product((1, 2), ("log_likelihood", "likelihood_ratio"), (False, True)))


@pytest.mark.parametrize(("num_inner_steps", "estimator", "has_critic"), CASES)
def test_maml_meta_gradient_equals_finite_differences(data, num_inner_steps, estimator, has_critic):
    """Protects the exactness of differentiating through every inner step, each parameter by itself."""
    loop = make_loop(num_inner_steps, estimator, has_critic)
    stages = data.stages[: num_inner_steps + 1]
    info = check_meta_gradient(loop, maml_objective(), select(data.nearby, has_critic), stages, ())
    assert (info["outer_ratio_error"] > 0.05).all(), "the check must be away from the sampling parameters"


@pytest.mark.slow
def test_multi_step_loss_is_the_mean_over_adapted_stages_and_differentiates_exactly(data):
    """Protects outer_stages: of 'adapted', stages 1..K count, of 'all', that before adaptation does too."""
    params, stages = select(data.nearby, False), data.stages[:3]
    check_meta_gradient(make_loop(2), maml_objective("adapted"), params, stages, ())
    check_meta_gradient(make_loop(2), maml_objective("all"), params, stages, ())

    def losses(num_inner_steps, outer_stages, weights=None):
        objective = maml_objective(outer_stages, outer_weights=weights)
        meta_loss = make_meta_loss(make_loop(num_inner_steps), objective)
        return jax.jit(jax.vmap(meta_loss, in_axes=(None, 0, None)))(params, stages[: num_inner_steps + 1], ())[0]

    assert_close(losses(2, "adapted"), (losses(1, "last") + losses(2, "last")) / 2)
    assert_close(losses(2, "adapted", (3.0, 1.0)), (3 * losses(1, "last") + losses(2, "last")) / 4)
    assert_close(losses(2, "all"), (losses(0, "last") + losses(1, "last") + losses(2, "last")) / 3)
    assert_close(losses(1, "all", (1.0, 3.0)), (losses(0, "last") + 3 * losses(1, "last")) / 4)


def test_outer_weights_that_cannot_be_meant_are_refused(data):
    with pytest.raises(ValueError, match="outer_weights"):
        maml_objective("last", outer_weights=(1.0,))
    meta_loss = make_meta_loss(make_loop(1), maml_objective("adapted", outer_weights=(1.0, 2.0)))
    with pytest.raises(ValueError, match="one for each of the 1 scored stages"):
        jax.eval_shape(meta_loss, select(data.nearby, False), jax.tree.map(lambda x: x[0], data.stages[:2]), ())


def with_rule_params(loop, params):
    """The policy's parameters and, beside them, perturbed ones of the loop's update rule."""
    meta = jax.tree.map(lambda x: x.astype(float), jax.jit(loop.init)(jax.random.key(5))).get(RULE)
    flat, unravel = ravel_pytree(meta)
    moved = unravel(flat + 0.3 * jax.random.normal(jax.random.key(6), flat.shape))
    return params if meta is None else {**params, RULE: moved}


LEARNED_STEP_SIZES = functools.partial(learned_step_sizes, per="parameter", per_step=True)


@pytest.mark.parametrize(
    ("num_inner_steps", "settings"),
    [
        (2, {"estimator": "dice"}),
        (2, {"estimator": "loaded_dice", "estimator_decay": 0.7}),
        (3, {"estimator": "taypo2"}),
        (3, {"inner_rule": "momentum", "estimator": "likelihood_ratio"}),
        (2, {"inner_rule": "adam", "inner_lr": 0.05}),
        (2, {"inner_rule": "learned"}),
        (2, {"rule": LEARNED_STEP_SIZES, "estimator": "likelihood_ratio"}),
        (1, {"rule": functools.partial(learned_step_sizes, per="step")}),
        (3, {"adapted": ("mean/Dense_1", "log_std")}),
        (2, {"max_inner_grad_norm": 0.2}),
        (2, {"entropy_coef": 0.3}),
    ],
)
def test_meta_gradient_through_every_estimator_and_update_rule(data, num_inner_steps, settings):
    """Protects what all methods are made of, each rule's own parameters included."""
    loop = make_loop(num_inner_steps, **settings)
    params = with_rule_params(loop, select(data.nearby, False))
    check_meta_gradient(loop, maml_objective(), params, data.stages[: num_inner_steps + 1], ())


@pytest.mark.parametrize("num_inner_steps", [1, 2, 3])
def test_clipped_meta_gradient_equals_finite_differences(data, num_inner_steps):
    """Protects MAML-PPO's outer loss."""
    stages = data.stages[: num_inner_steps + 1]
    check_meta_gradient(
        make_loop(num_inner_steps), maml_objective(clip_eps=0.3), select(data.nearby, False), stages, ()
    )


def test_the_outer_loss_is_less_the_entropy_of_the_last_policy(data):
    """Protects entropy_coef: of a Gaussian, ``sum(log std) + n/2 log(2 pi e)``, over the last stage's valid steps."""
    policy = mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,), state_dependent_std=True)
    flat, unravel = ravel_pytree(initial(policy, 0))
    params = unravel(flat + 0.3 * jax.random.normal(jax.random.key(1), flat.shape))
    loop = make_inner_loop(navigation_finn(horizon=HORIZON), policy, inner_lr=0.4, entropy_coef=0.3)
    stages = jax.tree.map(lambda x: x[0], data.stages[:2])

    @jax.jit
    def measure(params):
        evaluations = loop.replay(params, stages)[1]
        surrogate = maml_objective()(evaluations, stages, ())[0]
        return make_meta_loss(loop, maml_objective())(params, stages, ())[0], surrogate, evaluations

    loss, surrogate, evaluations = measure(params)
    mask = stages[-1].trajectory.mask
    entropy = [jnp.sum(e.dist_params.log_std, axis=-1) + jnp.log(2.0 * jnp.pi * jnp.e) for e in evaluations]
    mean = jnp.sum(mask * entropy[-1]) / mask.sum()
    np.testing.assert_allclose(loss, surrogate - 0.3 * mean, rtol=1e-12)
    assert min(abs(mean - entropy[-1].mean()), abs(mean - jnp.sum(mask * entropy[0]) / mask.sum())) > 1e-4


def test_critic_takes_its_own_step(data):
    """Protects critic_lr_scale: 0 leaves the critic where it is, 2 moves it twice as far; the policy moves alike."""
    stages = data.stages[:2]

    def adapted(scale):
        loop = make_loop(1, has_critic=True, critic_lr_scale=scale)
        return jax.jit(jax.vmap(loop.replay, in_axes=(None, 0)))(data.nearby, stages)[0]

    once, twice, never = adapted(1.0), adapted(2.0), adapted(0.0)
    before = jax.tree.map(lambda x: jnp.broadcast_to(x, (2, *x.shape)), data.nearby)
    for path, leaf in trees.by_path(once).items():
        moved, start = leaf - trees.by_path(before)[path], trees.by_path(before)[path]
        factor = 2.0 if path.startswith("value/") else 1.0
        np.testing.assert_allclose(trees.by_path(twice)[path] - start, factor * moved, rtol=1e-9, atol=1e-15)
        expected = 0.0 * moved if path.startswith("value/") else moved
        np.testing.assert_allclose(trees.by_path(never)[path] - start, expected, rtol=1e-9, atol=1e-15)
        assert np.abs(moved).max() > 0


@pytest.mark.parametrize(("num_inner_steps", "form"), [(1, "sum"), (2, "mean"), (3, "sum")])
def test_emaml_meta_gradient_equals_finite_differences(data, num_inner_steps, form):
    """Protects E-MAML's loss, where the credit of every inner stage takes part."""
    loop, params = make_loop(num_inner_steps), select(data.nearby, False)
    stages = data.stages[: num_inner_steps + 1]
    flat, unravel = ravel_pytree(params)
    meta_loss = emaml_loss(loop, "last", form, 0.7)
    directions = directions_for(flat.size)

    def loss(x):
        losses, info = jax.vmap(meta_loss, in_axes=(None, 0, None))(unravel(x), (stages, jnp.array([0.8, -1.1])), ())
        return jnp.mean(losses), info

    (losses, info), gradients = jax.jit(jax.vmap(jax.vmap(jax.value_and_grad(loss, has_aux=True))))(
        stencil(flat, directions)
    )
    assert_close(directions @ gradients[2, 0], central_differences(losses))
    assert (np.abs(info["exploration_loss"][2, 0]) > 0.05).all()


@pytest.mark.parametrize(("num_inner_steps", "estimator", "has_critic"), CASES)
def test_promp_meta_gradient_equals_finite_differences(data, num_inner_steps, estimator, has_critic):
    """Protects clipping and the KL penalties of the inner stages, where they are not zero."""
    loop = make_loop(num_inner_steps, estimator, has_critic)
    stages = data.stages[: num_inner_steps + 1]
    params = select(data.nearby, has_critic)
    _, evaluations = jax.jit(jax.vmap(loop.replay, in_axes=(None, 0)))(params, stages)
    last = stages[-1].trajectory
    r = ratio(evaluations[-1].log_prob, last.log_prob, last.mask)
    at_kink = np.minimum(abs(r - 1 - CLIP_EPS), abs(r - 1 + CLIP_EPS))
    assert at_kink.min() > 20 * STENCIL, "no ratio may sit where the loss has no derivative"
    assert (abs(r - 1) > CLIP_EPS).any()
    assert ((abs(r - 1) < CLIP_EPS) & (r != 1)).any()

    objective = promp_objective(make_policy(has_critic).distribution, CLIP_EPS)
    eta = jnp.array(ETA[:num_inner_steps])
    info = check_meta_gradient(loop, objective, params, stages, eta)
    assert (info["inner_kl"] > 1e-3).all(), "the KL penalty must take part"


@pytest.mark.parametrize("num_inner_steps", [1, 2])
def test_outer_ratios_and_inner_divergences_at_the_first_epoch(num_inner_steps):
    """Protects the bookkeeping of each stage's own sampling policy: ratios are 1 and divergences 0 at theta_old."""
    loop = make_loop(num_inner_steps, "likelihood_ratio")
    params = initial(make_policy(False), 3)

    @jax.jit
    def at_sampling_parameters(params):
        keys = jax.random.split(jax.random.key(4), 2)
        _, stages = jax.vmap(loop.collect, in_axes=(None, 0, 0))(params, TASKS, keys)
        objective = promp_objective(make_policy(False).distribution, CLIP_EPS)
        return jax.vmap(make_meta_loss(loop, objective), in_axes=(None, 0, None))(
            params, stages, jnp.array(ETA[:num_inner_steps])
        )

    loss, info = at_sampling_parameters(params)
    np.testing.assert_allclose(info["outer_ratio_error"], 0.0, atol=1e-12)
    np.testing.assert_allclose(info["inner_kl"], 0.0, atol=1e-12)
    # Ratios of exactly 1 weigh normalised advantages, whose mean is 0.
    np.testing.assert_allclose(loss, 0.0, atol=1e-8)


@pytest.mark.parametrize("num_inner_steps", [1, 2])
def test_first_order_is_the_gradient_at_the_adapted_parameters(data, num_inner_steps):
    """Protects FOMAML: with d(inner gradient)/d(theta) = 0 it is the last loss's gradient at phi_K, and not MAML's."""
    params, stages = select(data.nearby, False), data.stages[: num_inner_steps + 1]
    distribution = make_policy(False).distribution

    def gradient(first_order):
        loop = make_loop(num_inner_steps, first_order=first_order)
        flat, loss = flat_meta_loss(loop, maml_objective(), params, stages, ())
        return jax.jit(jax.grad(lambda x: loss(x)[0]))(flat)

    def gradient_at_adapted():
        loop = make_loop(num_inner_steps)

        def of_task(data):
            adapted, _ = loop.replay(params, data)
            batch = data[-1]

            def last_loss(phi):
                dist_params, _ = make_policy(False).evaluate(phi, (), batch.trajectory.percept)
                log_prob = distribution.log_prob(dist_params, batch.trajectory.action)
                mask = batch.trajectory.mask
                weights = mask / mask.sum()
                return -jnp.sum(weights * jnp.exp(log_prob - batch.trajectory.log_prob) * batch.advantage)

            return jax.grad(last_loss)(adapted)

        per_task = jax.vmap(of_task)(stages)
        return ravel_pytree(jax.tree.map(lambda x: x.mean(axis=0), per_task))[0]

    first, second = gradient(True), gradient(False)
    assert_close(first, jax.jit(gradient_at_adapted)(), rtol=1e-10)
    assert np.linalg.norm(first - second) > 1e-2 * np.linalg.norm(second)


def test_no_inner_steps_is_the_plain_policy_gradient():
    """Protects K = 0: the update is -mean(A grad log pi), here from numpy returns and a hand-written network."""
    algorithm = maml(
        navigation_finn(horizon=HORIZON, action_scale=0.05),
        make_policy(False),
        optax.sgd(1.0),
        num_inner_steps=0,
        episodes_per_task=EPISODES,
        discount=0.9,
        baseline="zero",
    )
    loop = make_loop(0, baseline="zero", discount=0.9, gae_lambda=1.0)
    params = initial(make_policy(False), 5)
    state = jax.jit(algorithm.init)(jax.random.key(5))._replace(params=params)
    keys = jax.random.split(jax.random.key(6), 2)
    new_state, _ = jax.jit(algorithm.update)(state, TASKS, keys)
    _, (batch,) = jax.jit(jax.vmap(loop.collect, in_axes=(None, 0, 0)))(params, TASKS, keys)

    def log_prob(params, observation, action):
        first, second = params["mean"]["Dense_0"], params["mean"]["Dense_1"]
        mean = jnp.tanh(observation @ first["kernel"] + first["bias"]) @ second["kernel"] + second["bias"]
        std = jnp.exp(params["log_std"])
        return jnp.sum(-((action - mean) ** 2) / (2 * std**2) - jnp.log(std * np.sqrt(2 * np.pi)), axis=-1)

    score = jax.jit(jax.vmap(jax.grad(log_prob), in_axes=(None, 0, 0)))
    expected = jax.tree.map(jnp.zeros_like, params)
    for m in range(2):
        trajectory = jax.tree.map(lambda x, m=m: np.asarray(x[m]), batch.trajectory)
        mask = trajectory.mask > 0
        gain = np.zeros((HORIZON + 1, EPISODES))
        for t in reversed(range(HORIZON)):
            gain[t] = np.where(mask[t], trajectory.reward[t] + 0.9 * gain[t + 1], 0.0)
        valid = gain[:HORIZON][mask]
        advantage = (valid - valid.mean()) / (valid.std() + 1e-8)
        scores = score(params, trajectory.percept.observation[mask], trajectory.action[mask])
        expected = jax.tree.map(
            lambda total, s, a=advantage: total + np.tensordot(a, s, axes=1) / a.size / 2, expected, scores
        )
    moved = jax.tree.map(jnp.subtract, new_state.params, params)
    assert_close(ravel_pytree(moved)[0], ravel_pytree(expected)[0], rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maml", {"estimator": "likelihood_ratio", "inner_lr": 0.4}),
        ("maml", {"first_order": True, "inner_lr": 0.4}),
        ("promp", {"inner_lr": 0.4, "num_epochs": 1}),
    ],
)
@pytest.mark.slow
def test_update_steps_along_the_meta_gradient(name, settings):
    """Protects the front ends: what ``update`` descends is the meta-loss checked above, with the settings asked for."""
    family, policy = navigation_finn(horizon=HORIZON, action_scale=0.05), make_policy(False)
    factory, objective, aux = {
        "maml": (maml, maml_objective(), ()),
        "promp": (promp, promp_objective(policy.distribution, CLIP_EPS), jnp.array([5e-4])),
    }[name]
    algorithm = factory(
        family, policy, optax.sgd(1.0), episodes_per_task=EPISODES, discount=0.95, gae_lambda=0.9, **settings
    )
    estimator = settings.get("estimator", "log_likelihood" if name == "maml" else "likelihood_ratio")
    loop = make_loop(1, estimator, first_order=settings.get("first_order", False))
    params = initial(policy, 7)
    keys = jax.random.split(jax.random.key(8), 2)

    @jax.jit
    def both(params):
        state = algorithm.init(jax.random.key(7))._replace(params=params)
        new_state, _ = algorithm.update(state, TASKS, keys)
        _, stages = jax.vmap(loop.collect, in_axes=(None, 0, 0))(params, TASKS, keys)
        flat, loss = flat_meta_loss(loop, objective, params, stages, aux)
        return flat - ravel_pytree(new_state.params)[0], jax.grad(lambda x: loss(x)[0])(flat)

    assert_close(*both(params), rtol=1e-9)


def test_outer_kl_is_the_divergence_from_the_policy_that_collected():
    """Many samples of two Gaussians: the estimate meets the exact divergence, whatever is masked."""
    distribution = make_policy(False).distribution
    old = GaussianParams(jnp.zeros((50_000, 1, 2)), jnp.zeros((50_000, 1, 2)))
    new = GaussianParams(old.mean + 0.3, old.log_std - 0.1)
    action = distribution.sample(old, jax.random.key(0))
    mask = jnp.ones((50_000, 1)).at[-1].set(0.0)
    nothing = Trajectory(*[None] * len(Trajectory._fields))
    sampled = nothing._replace(log_prob=distribution.log_prob(old, action), mask=mask)
    now = Evaluation(distribution.log_prob(new, action).at[-1].set(jnp.nan), new, mask)
    _, info = with_outer_kl(lambda *_: (mask[0, 0], {}))((now,), (Batch(sampled, mask, mask),), ())
    np.testing.assert_allclose(info["outer_kl"], distribution.kl(old, new)[0, 0], rtol=0.03)


@pytest.mark.parametrize("factory", [ppo_maml, promp])
@pytest.mark.slow
def test_max_outer_kl_shortens_steps(factory):
    """Protects the wiring: out of reach it changes nothing, it holds, and where no step fits the parameters stay."""

    def update(max_outer_kl, num_epochs=3):
        algorithm = factory(
            navigation_finn(horizon=HORIZON),
            make_policy(False),
            optax.sgd(0.03),
            episodes_per_task=EPISODES,
            num_epochs=num_epochs,
            max_outer_kl=max_outer_kl,
        )
        state = jax.jit(algorithm.init)(jax.random.key(0))
        state = state._replace(params=jax.tree.map(lambda x: x.astype(float), state.params))
        return state, *jax.jit(algorithm.update)(state, TASKS, jax.random.split(jax.random.key(1), 2))

    _, unbounded, _ = update(None)
    _, far, far_info = update(1e3)
    assert_close(ravel_pytree(far.params)[0], ravel_pytree(unbounded.params)[0], rtol=1e-9)
    assert far_info["outer_step_scale"] == 1
    limit = float(far_info["outer_kl"]) / 2
    start, near, near_info = update(limit)
    assert near_info["outer_step_scale"] < 1
    assert 0 < near_info["outer_kl"] <= limit
    assert not np.array_equal(near.params["log_std"], start.params["log_std"])
    _, none, none_info = update(1e-12)
    jax.tree.map(np.testing.assert_array_equal, none.params, start.params)
    assert none_info["outer_kl"] < 1e-12
    with pytest.raises(ValueError, match="max_outer_kl"):
        update(0.0)
    with pytest.raises(ValueError, match="a halving takes one"):
        update(0.1, num_epochs=1)


@pytest.mark.parametrize("task_chunk", [1, 2])
def test_task_chunk_does_not_change_the_gradient(data, task_chunk):
    """Protects the option that saves memory: 3 tasks in chunks of 1, or of 2 with a remainder, equal all at once."""
    stages = jax.tree.map(lambda x: jnp.concatenate([x, x[:1] * 1.0 + 0 * x[1:]]), data.stages[:2])
    meta_loss = make_meta_loss(make_loop(1), maml_objective())
    params = select(data.nearby, False)

    def value_and_grad(chunk):
        (loss, _), gradient = jax.jit(mean_value_and_grad(meta_loss, stages, (), chunk))(params)
        return np.append(ravel_pytree(gradient)[0], loss)

    assert_close(value_and_grad(task_chunk), value_and_grad(3), rtol=1e-10)


@pytest.mark.parametrize(
    ("num_inner_steps", "first_stage", "estimator"),
    [
        (0, -1, "log_likelihood"),
        (1, -1, "log_likelihood"),
        (1, 0, "likelihood_ratio"),
        (2, -1, "likelihood_ratio"),
        (2, 0, "log_likelihood"),
    ],
)
@pytest.mark.slow
def test_kl_product_is_the_hessian_of_the_mean_kl(data, num_inner_steps, first_stage, estimator):
    """Protects J^T F J: it equals differences of the KL's gradient and its second derivative, and is symmetric PSD."""
    loop, distribution = make_loop(num_inner_steps, estimator), make_policy(False).distribution
    stages = data.stages[: num_inner_steps + 1]
    flat, unravel = ravel_pytree(select(data.nearby, False))
    mean_kl = make_mean_kl(distribution)

    def distributions(x):
        _, evaluations = jax.vmap(loop.replay, in_axes=(None, 0))(unravel(x), stages)
        return tuple(evaluation.dist_params for evaluation in evaluations[first_stage:])

    @jax.jit
    def matrices(x):
        reference = distributions(x)
        kl_gradient = jax.grad(lambda y: mean_kl(reference, distributions(y), stages[first_stage:]))
        product = make_kl_product(loop, distribution, unravel(x), stages, first_stage)

        def directional(y, v):
            gradient = kl_gradient(y)
            return jnp.vdot(gradient, v), gradient

        basis = jnp.eye(x.size)
        exact = jax.vmap(lambda v: ravel_pytree(product(unravel(v)))[0])(basis)
        at_points = jax.vmap(jax.vmap(jax.grad(directional, has_aux=True)), in_axes=(0, None))
        grad_of_grad, gradients = at_points(stencil(x, basis), basis)
        return exact, grad_of_grad[2], gradients

    exact, grad_of_grad, gradients = map(np.asarray, matrices(flat))
    numerical = central_differences(gradients)
    np.testing.assert_allclose(gradients[2], 0.0, atol=1e-12)
    assert_close(exact, grad_of_grad, rtol=1e-9)
    assert_close(exact, numerical)
    assert_close(exact, exact.T, rtol=1e-9)
    eigenvalues = np.linalg.eigvalsh((exact + exact.T) / 2)
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()
    assert eigenvalues.max() > 1e-3


def test_kl_product_sees_the_inner_steps(data):
    """Protects against dropping the adaptation: without inner steps' derivatives the product differs."""
    flat, unravel = ravel_pytree(select(data.nearby, False))
    v = unravel(jnp.asarray(directions_for(flat.size)[-1]))

    def image(first_order, **settings):
        loop = make_loop(1, first_order=first_order)
        product = make_kl_product(loop, make_policy(False).distribution, unravel(flat), data.stages[:2], **settings)
        return ravel_pytree(product(v))[0]

    through, around, all_at_once = jax.jit(lambda: (image(False), image(True), image(False, task_chunk=3)))()
    assert_close(through, all_at_once, rtol=1e-9)  # by default CPUs linearise one task after the other
    assert np.linalg.norm(through - around) > 1e-2 * np.linalg.norm(through)


@pytest.mark.parametrize(("learning_rate", "factor"), [(1e-6, 0.5), (0.3, 2.0)])
@pytest.mark.slow
def test_promp_adapts_its_kl_coefficients_after_all_epochs(learning_rate, factor):
    """Protects the wiring of ``kl_target``: after the epochs, a small step halves eta and a big one doubles it."""
    algorithm = promp(
        navigation_finn(horizon=HORIZON),
        make_policy(False),
        optax.sgd(learning_rate),
        episodes_per_task=EPISODES,
        num_inner_steps=2,
        num_epochs=3,
        kl_coefficient=0.25,
        kl_target=1e-4,
    )
    state = jax.jit(algorithm.init)(jax.random.key(0))
    state = state._replace(params=jax.tree.map(lambda x: x.astype(float), state.params))
    state, info = jax.jit(algorithm.update)(state, TASKS, jax.random.split(jax.random.key(1), 2))
    np.testing.assert_allclose(info["kl_coefficient"], 0.25)
    np.testing.assert_allclose(state.aux, [0.25 * factor] * 2)
    assert (info["inner_kl"] > 0).all()


# An MDP small enough to sum over: 2 states, 2 actions, 2 steps, 16 trajectories (s0, a0, s1, a1).
START = np.array([0.3, 0.7])
TRANSITION = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.35, 0.65]]])
REWARD = np.array([[1.0, -0.5], [0.3, 2.0]])
LOGITS = np.array([[0.2, -0.4], [-0.7, 0.5]])
PATHS = np.array(list(itertools.product((0, 1), repeat=4)))
STEPS = 2


def path_probabilities(logits):
    s0, a0, s1, a1 = PATHS.T
    pi = jax.nn.softmax(logits)
    return START[s0] * pi[s0, a0] * TRANSITION[s0, a0, s1] * pi[s1, a1]


def expected_return(logits):
    s0, a0, s1, a1 = PATHS.T
    return jnp.sum(path_probabilities(logits) * (REWARD[s0, a0] + REWARD[s1, a1]))


def tabular_policy():
    distribution = categorical()

    def act(params, carry, percept, key):
        raise NotImplementedError("every trajectory is written down, none is sampled")

    def evaluate(params, carry, percept):
        return params[percept.observation[..., 0].astype(int)], jnp.zeros(percept.previous_reward.shape)

    return Policy(lambda key: jnp.asarray(LOGITS), lambda size: (), act, evaluate, distribution)


def every_trajectory(policy):
    """Each path as data of its own, ``[16, T, 1, ...]``, with the un-normalised return as advantage."""
    states, actions = PATHS[:, ::2, None], PATHS[:, 1::2, None]
    reward, one = jnp.asarray(REWARD[states, actions]), jnp.ones(states.shape)
    percept = Percept(states[..., None].astype(float), jnp.zeros(states.shape, int), jnp.zeros(states.shape), one)
    dist_params = jnp.asarray(LOGITS)[states]
    log_prob = policy.distribution.log_prob(dist_params, jnp.asarray(actions))
    trajectory = Trajectory(
        percept, jnp.asarray(actions), reward, one, one, one, log_prob, dist_params, (), None,
        jax.tree.map(lambda x: x[:, -1], percept),
    )  # fmt: skip
    gain = jax.vmap(lambda r, o: discounted_return(r, jnp.zeros(1), o, o, 1.0))(reward, one)
    return Batch(trajectory, gain, gain)


def exact_hessian_terms():
    """``H1``, ``H2`` and ``H12`` of the reference by summing numpy expressions for the softmax over all paths."""
    pi = np.asarray(jax.nn.softmax(LOGITS))
    probabilities = np.asarray(path_probabilities(LOGITS))
    value_gradient = np.zeros((2, 2, 2))
    for s in range(2):
        value_gradient[s, s] = pi[s] * (REWARD[s] - pi[s] @ REWARD[s])
    value_gradient = value_gradient.reshape(2, 4)
    h1, h2, h12 = np.zeros((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))
    for p, path in zip(probabilities, PATHS, strict=True):
        for t in range(STEPS):
            s, a = path[2 * t], path[2 * t + 1]
            gain = sum(REWARD[path[2 * u], path[2 * u + 1]] for u in range(t, STEPS))
            score, curvature = np.zeros((2, 2)), np.zeros((2, 2, 2, 2))
            score[s] = np.eye(2)[a] - pi[s]
            curvature[s, :, s, :] = np.outer(pi[s], pi[s]) - np.diag(pi[s])
            h1 += p * gain * np.outer(score, score)
            h2 += p * gain * curvature.reshape(4, 4)
            if t == 0:
                h12 += p * np.outer(score, TRANSITION[s, a] @ value_gradient)
    return h1, h2, h12


@pytest.fixture(scope="module")
def expected_updates(_float64):
    """Per estimator, the mean over all trajectories of an inner step's direction and of its Jacobian, as ascent."""
    policy = tabular_policy()
    data = every_trajectory(policy)
    probabilities = path_probabilities(LOGITS)

    def mean_step(estimator):
        loop = make_inner_loop(
            navigation_finn(), policy, estimator=estimator, inner_lr=1.0, num_inner_steps=1,
            episodes_per_task=1, discount=1.0, gae_lambda=1.0, baseline="zero",
        )  # fmt: skip

        def step(logits):
            adapted = jax.vmap(lambda batch: loop.replay(logits, (batch, batch))[0])(data)
            # The surrogates are means over the steps; the policy gradient is a sum.
            return STEPS * jnp.tensordot(probabilities, adapted - logits, axes=1)

        value, jacobian = jax.jit(lambda logits: (step(logits), jax.jacobian(step)(logits)))(jnp.asarray(LOGITS))
        return value, jacobian.reshape(4, 4)

    return {estimator: mean_step(estimator) for estimator in get_args(Estimator)}


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_expected_inner_gradient_is_the_exact_policy_gradient(expected_updates, estimator):
    """Protects unbiasedness: over all 16 trajectories the inner step is the gradient of the expected return."""
    assert_close(expected_updates[estimator][0], jax.jit(jax.grad(expected_return))(jnp.asarray(LOGITS)), rtol=1e-8)


def test_expected_hessians_of_the_estimators(expected_updates):
    """Protects what each surrogate's second derivative estimates: H2, H1 + H2, or the whole Hessian."""
    h1, h2, h12 = exact_hessian_terms()
    whole = jax.jit(jax.hessian(expected_return))(jnp.asarray(LOGITS)).reshape(4, 4)
    assert_close(h1 + h2 + h12 + h12.T, whole, rtol=1e-8)
    assert_close(expected_updates["log_likelihood"][1], h2, rtol=1e-8)
    assert_close(expected_updates["likelihood_ratio"][1], h1 + h2, rtol=1e-8)
    for unbiased in ("dice", "loaded_dice", "taypo2"):
        assert_close(expected_updates[unbiased][1], whole, rtol=1e-8)
    assert np.abs(h1).max() > 0.01
    assert np.abs(h12).max() > 0.01


# A bandit with two arms, three pulls before adaptation and one after: 16 outcomes.
ARMS = np.array([1.0, -0.4])
PULLS = np.array(list(itertools.product((0, 1), repeat=3)))
BANDIT_LOGITS = np.array([[0.3, -0.2]])


@pytest.mark.parametrize("factory", [maml, pretraining])
@pytest.mark.slow
def test_replay_of_an_algorithm_differentiates_what_adapt_does(factory):
    """Any function of the adapted parameters, here a random direction; ``adapt`` itself is a constant."""
    family = navigation_finn(horizon=HORIZON, action_scale=0.05)
    settings = {"inner_lr": 0.4, "num_inner_steps": 2, "episodes_per_task": EPISODES}
    algorithm = factory(family, make_policy(False), optax.sgd(0.1), **settings)
    params = initial(make_policy(False), 0)
    task, key = jax.tree.map(lambda x: x[0], TASKS), jax.random.key(0)
    agent, _ = jax.jit(algorithm.adapt)(params, task, key)
    adapted, stages = jax.jit(algorithm.collect)(params, task, key)
    flat, unravel = ravel_pytree(params)
    direction = jnp.asarray(np.random.default_rng(1).normal(size=flat.size))

    def along(adapted):
        return jnp.vdot(direction, ravel_pytree(adapted)[0])

    def replayed(x):
        return along(algorithm.replay(unravel(x), stages)[0])

    assert_close(ravel_pytree(adapted)[0], ravel_pytree(agent.params)[0], rtol=1e-12)
    assert_close(ravel_pytree(algorithm.replay(params, stages)[0])[0], ravel_pytree(agent.params)[0], rtol=1e-9)
    points = stencil(flat, directions_for(flat.size)[-3:])
    numeric = central_differences(jax.jit(jax.vmap(jax.vmap(replayed)))(points))
    gradient = jax.jit(jax.grad(replayed))(flat)
    assert_close(directions_for(flat.size)[-3:] @ gradient, numeric)
    assert np.abs(gradient - direction).max() > 0.01, "the inner steps have a derivative of their own"
    constant = jax.jit(jax.grad(lambda x: along(algorithm.adapt(unravel(x), task, key)[0].params)))(flat)
    np.testing.assert_array_equal(constant, 0.0)


def bandit_batch(policy, arms):
    """One-step episodes ``[1, B]`` with the arms given, the reward as advantage."""
    actions = jnp.asarray(arms)[None]
    reward, one = jnp.asarray(ARMS)[actions], jnp.ones(actions.shape)
    percept = Percept(jnp.zeros((*actions.shape, 1)), jnp.zeros(actions.shape, int), 0.0 * reward, one)
    dist_params = jnp.broadcast_to(BANDIT_LOGITS[0], (*actions.shape, 2))
    log_prob = policy.distribution.log_prob(dist_params, actions)
    last = jax.tree.map(lambda x: x[-1], percept)
    sampled = Trajectory(percept, actions, reward, one, one, one, log_prob, dist_params, (), None, last)
    return Batch(sampled, reward, reward)


@pytest.mark.parametrize("form", ["sum", "mean"])
@pytest.mark.slow
def test_emaml_is_the_exact_gradient_of_the_sampled_update_objective(form):
    """Protects E-MAML: summed over all data, its gradient is that of the mean return after updates on sampled data.

    MAML's, without the credit of the sampling, is not. The mean form is the sum form with a weight 1 / B.
    """
    policy, step_size = tabular_policy(), 0.8
    loop = make_inner_loop(
        navigation_finn(), policy, inner_lr=step_size, num_inner_steps=1, episodes_per_task=3, discount=1.0,
        gae_lambda=1.0, baseline="zero",
    )  # fmt: skip

    def probability(logits, arms):
        return jnp.prod(jax.nn.softmax(logits[0])[arms])

    def objective(logits):
        total = 0.0
        for arms in PULLS:
            scores = jax.nn.one_hot(arms, 2) - jax.nn.softmax(logits[0])
            adapted = logits[0] + step_size * jnp.mean(ARMS[arms][:, None] * scores, axis=0)
            total += probability(logits, arms) * jnp.vdot(jax.nn.softmax(adapted), ARMS)
        return total

    def expected_gradient(coef):
        meta_loss = emaml_loss(loop, "last", form, coef)
        total = jnp.zeros_like(BANDIT_LOGITS)
        for arms in PULLS:
            inner = bandit_batch(policy, arms)
            adapted, _ = loop.replay(jnp.asarray(BANDIT_LOGITS), (inner, bandit_batch(policy, [0])))
            for arm in (0, 1):
                outer = bandit_batch(policy, [arm])
                sampled = policy.distribution.log_prob(adapted[:1], jnp.array([arm]))[None]
                outer = outer._replace(trajectory=outer.trajectory._replace(log_prob=sampled))
                gradient, _ = jax.grad(meta_loss, has_aux=True)(
                    jnp.asarray(BANDIT_LOGITS), ((inner, outer), jnp.asarray(ARMS[arm])), ()
                )
                total += probability(BANDIT_LOGITS, arms) * jax.nn.softmax(adapted[0])[arm] * -gradient
        return total

    exact = jax.grad(objective)(jnp.asarray(BANDIT_LOGITS))
    weight = 1.0 if form == "sum" else 3.0
    assert_close(expected_gradient(weight), exact, rtol=1e-8)
    assert np.abs(expected_gradient(0.0) - exact).max() > 0.01


@pytest.mark.parametrize("num_tasks", [1, 10])
def test_tasks_that_agree_have_a_finite_signal_to_noise_ratio(num_tasks):
    """One task, or several with one gradient: the noise is zero, and the update must not be skipped for it."""
    info = {"grad_norm": jnp.float32(300.0), "task_grad_square": jnp.float32(9e4)}
    snr = float(signal_to_noise(info, num_tasks)["grad_snr"])
    assert snr == -1.0 if num_tasks == 1 else 1e3 < snr < np.inf


@pytest.mark.parametrize("squared_signal", [0.0, 0.5])
def test_the_signal_to_noise_ratio_is_that_of_simulated_gradients(squared_signal):
    """Of M = 10 tasks, with a common signal and noise of variance 1: what the mean keeps of that, 0.1, is no signal."""
    rng = np.random.default_rng(0)
    signal = np.full(100, np.sqrt(squared_signal / 100))
    gradients = signal + rng.normal(0.0, 0.1, (500, 10, 100))
    grad_norm = np.linalg.norm(gradients.mean(axis=1), axis=-1)
    square = np.mean(np.sum(gradients**2, axis=-1), axis=-1)
    info = signal_to_noise({"grad_norm": jnp.asarray(grad_norm), "task_grad_square": jnp.asarray(square)}, 10)
    snr = np.asarray(info["grad_snr"])
    assert abs(snr.mean() - squared_signal) < 4 * snr.std() / np.sqrt(len(snr)) + 0.003  # E[1 / variance] is 0.2 % high
    assert snr.std() / np.sqrt(len(snr)) < 0.005


def test_the_tasks_of_all_devices_count_in_the_signal_to_noise_ratio():
    count = jax.vmap(lambda data: jnp.float32(count_tasks(data, "devices")), axis_name="devices")
    assert count(jnp.zeros((3, 4, 2))).tolist() == [12.0, 12.0, 12.0]
