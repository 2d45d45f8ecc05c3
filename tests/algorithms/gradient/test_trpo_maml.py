"""The trust-region outer step: the divergence stays in bounds, a rejected search changes nothing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.gradient.assembly import make_meta_loss
from metarl_jax.algorithms.gradient.maml import maml_objective
from metarl_jax.algorithms.gradient.trpo_maml import trpo_maml
from metarl_jax.algorithms.gradient.trust_region import make_mean_kl
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.ops import trees
from metarl_jax.tasks.navigation.goals import navigation_finn
from metarl_jax.types import ActionSpec

FAMILY = navigation_finn(horizon=10)
POLICY = mlp_policy((2,), ActionSpec(2), hidden_sizes=(8,))
SETTINGS = {"inner_lr": 0.3, "num_inner_steps": 1, "episodes_per_task": 5}
KEYS = jax.random.split(jax.random.key(1), 3)
# Compilation is nearly all the time that these tests take.
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def tasks():
    return jax.vmap(FAMILY.sample)(KEYS)


@pytest.fixture(scope="module")
def collected(tasks):
    """``(theta, stages)`` as the algorithm collects them, and a function that measures any parameters on them."""
    loop = make_inner_loop(
        FAMILY, POLICY, estimator="log_likelihood", discount=0.99, gae_lambda=1.0,
        baseline="linear_feature", **SETTINGS,
    )  # fmt: skip
    theta = jax.jit(POLICY.init)(jax.random.key(0))
    _, stages = jit(jax.vmap(loop.collect, in_axes=(None, 0, 0)))(theta, tasks, KEYS)

    @jit
    def measure(params):
        """Mean outer loss, and the mean KL of each stage from the policy that sampled it."""
        _, evaluations = jax.vmap(loop.replay, in_axes=(None, 0))(params, stages)
        losses, _ = jax.vmap(make_meta_loss(loop, maml_objective()), in_axes=(None, 0, None))(params, stages, ())
        mean_kl = make_mean_kl(POLICY.distribution)
        kl = [
            mean_kl((b.trajectory.dist_params,), (e.dist_params,), (b,))
            for b, e in zip(stages, evaluations, strict=True)
        ]
        return jnp.mean(losses), jnp.stack(kl)

    return theta, measure


@functools.cache
def compiled(constrain):
    """Initial state and a jitted update in which the numbers are traced: one compilation for all of them."""

    def update(state, tasks, max_kl, cg_damping):
        algorithm = trpo_maml(FAMILY, POLICY, **SETTINGS, constrain=constrain, max_kl=max_kl, cg_damping=cg_damping)
        return algorithm.update(state, tasks, KEYS)

    state = jax.jit(trpo_maml(FAMILY, POLICY, **SETTINGS).init)(jax.random.key(0))
    return state, jit(update)


def updated(tasks, constrain="adapted", max_kl=0.01, cg_damping=1e-5):
    state, update = compiled(constrain)
    return state, *update(state, tasks, max_kl, cg_damping)


@pytest.mark.parametrize(("constrain", "counted"), [("adapted", slice(1, 2)), ("all_stages", slice(0, 2))])
@pytest.mark.slow
def test_the_step_improves_the_loss_within_the_trust_region(tasks, collected, constrain, counted):
    """Measured here on the same data: the loss falls, the bounded KL is at most max_kl, and much of it is used."""
    theta, measure = collected
    state, new_state, info = updated(tasks, constrain=constrain, max_kl=0.01)
    jax.tree.map(np.testing.assert_array_equal, state.params, theta)
    (loss_before, kl_before), (loss, kl) = measure(theta), measure(new_state.params)
    np.testing.assert_allclose(kl_before, 0.0, atol=1e-5)
    assert loss < loss_before
    assert 0.002 < float(kl[counted].sum()) <= 0.01 * 1.001
    np.testing.assert_allclose(info["kl"], kl[counted].sum(), rtol=1e-2, atol=1e-5)
    np.testing.assert_allclose(info["loss_after"], loss, rtol=1e-3, atol=1e-5)
    assert 0 < info["step_fraction"] <= 1
    assert info["skipped"] == 0


def test_the_line_search_measures_the_loss_with_its_entropy_bonus(tasks):
    """Protects entropy_coef: it is the same loss before and after the step, so a short step changes little."""
    algorithm = trpo_maml(FAMILY, POLICY, **SETTINGS, max_kl=1e-3, entropy_coef=0.1)
    _, info = jit(algorithm.update)(compiled("adapted")[0], tasks, KEYS)
    assert info["step_fraction"] > 0
    assert -0.1 < info["loss_after"] - info["loss"] < 0, "the bonus itself is 0.28"


def test_constraining_all_stages_shortens_the_step(tasks, collected):
    """The option bounds more, so the collecting policy moves less."""
    _, measure = collected
    free = measure(updated(tasks, constrain="adapted")[1].params)[1]
    bound = measure(updated(tasks, constrain="all_stages")[1].params)[1]
    assert bound[0] < free[0]


def test_the_quadratic_model_predicts_the_divergence(tasks):
    """For a small region the full step uses up nearly all of it: the length sqrt(2 max_kl / x A x) is right."""
    _, _, info = updated(tasks, max_kl=1e-5, cg_damping=1e-2)
    np.testing.assert_allclose(info["kl"] / info["step_fraction"] ** 2, 1e-5, rtol=0.15)
    assert info["cg_residual"] < 0.05


@pytest.mark.slow
def test_the_trust_region_halves_after_its_half_life(tasks):
    """At update 6 with a half-life of 3 the step is that of a quarter of the region."""
    state, _, _ = updated(tasks)
    shrinking = trpo_maml(FAMILY, POLICY, **SETTINGS, max_kl=4e-5, cg_damping=1e-2, max_kl_half_life=3.0)
    later, info = jit(shrinking.update)(state._replace(step=jnp.int32(6)), tasks, KEYS)
    _, expected, _ = updated(tasks, max_kl=1e-5, cg_damping=1e-2)
    moved = [trees.norm(jax.tree.map(jnp.subtract, s.params, state.params)) for s in (later, expected)]
    np.testing.assert_allclose(*moved, rtol=4e-3)  # the line search sees float32 differences of the divergence
    assert info["kl"] <= 1e-5 * 1.001


def test_a_rejected_line_search_leaves_the_parameters(tasks):
    """With an unreachable bound no length is accepted: parameters stay bit for bit, and the info says so."""
    state, new_state, info = updated(tasks, max_kl=1e-30)
    jax.tree.map(np.testing.assert_array_equal, new_state.params, state.params)
    assert info["step_fraction"] == 0
    assert info["kl"] == 0
    assert info["skipped"] == 0
    assert new_state.step == 1


@pytest.mark.parametrize(
    "settings", [{"max_kl": 0.0}, {"max_kl": -1.0}, {"cg_damping": -1e-3}], ids=lambda settings: next(iter(settings))
)
def test_impossible_settings_are_refused(settings):
    """The message names the setting and the value."""
    ((name, value),) = settings.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        trpo_maml(FAMILY, POLICY, **settings)
