"""Options that all memoryless policies share, and that adaptation differentiates through every one of them."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.gradient.anil import head
from metarl_jax.networks import conv_policy, memoryless_policy, mlp_policy
from metarl_jax.networks.heads import MAX_STD
from metarl_jax.networks.mlp import MLP
from metarl_jax.types import ActionSpec, Percept

SHAPE = (4, 4, 2)
MAKERS = {
    "mlp": functools.partial(mlp_policy, hidden_sizes=(5, 4)),
    "conv": functools.partial(conv_policy, channels=(3,), hidden_sizes=(5, 4), activation="tanh"),
}
EVERYTHING = {"squash": True, "state_dependent_std": True, "shared_torso": True}
BOTH = pytest.mark.parametrize("network", MAKERS)


def make(network, discrete=False, **settings):
    return MAKERS[network](SHAPE, ActionSpec(3, discrete), **settings)


def initial(policy):
    """Parameters off their special initial values: zero kernels would hide what depends on them."""
    params = jax.jit(policy.init)(jax.random.key(0))
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, moved)


def percept(*leading, discrete=False):
    action = jnp.zeros(leading, int) if discrete else jnp.zeros((*leading, 3))
    return Percept(jax.random.normal(jax.random.key(9), (*leading, *SHAPE)), action, *jnp.zeros((2, *leading)))


def test_a_sequential_network_is_one_though_its_layers_are_no_method():
    network = nn.Sequential([nn.Dense(4), nn.tanh, nn.Dense(3)])
    policy = memoryless_policy(network, None, SHAPE, ActionSpec(3))
    action, *_ = policy.act(policy.init(jax.random.key(0)), (), percept(2), jax.random.key(1))
    assert action.shape == (2, 3)
    with pytest.raises(ValueError, match="state_dependent_std = True: give Sequential a method 'layers'"):
        memoryless_policy(network, None, SHAPE, ActionSpec(3), state_dependent_std=True)


@BOTH
@pytest.mark.parametrize(
    ("discrete", "settings"),
    [
        (True, {"shared_torso": True, "context_size": 2}),
        (True, {"critic_hidden_sizes": (6,)}),
        (False, {**EVERYTHING, "critic_hidden_sizes": (6,)}),
    ],
)
def test_act_and_evaluate_agree(network, discrete, settings):
    """Ratios start at 1 whatever the options, and shapes are those of the protocol."""
    policy = make(network, discrete, **settings)
    params, seen = initial(policy), percept(2, 4, discrete=discrete)
    now = jax.tree.map(lambda x: x[1], seen)
    action, log_prob, dist_params, carry = jax.jit(policy.act)(params, (), now, jax.random.key(2))
    evaluated, value = jax.jit(policy.evaluate)(params, (), seen)
    assert (carry, policy.has_critic, policy.unroll) == ((), True, None)
    assert action.shape == ((4,) if discrete else (4, 3))
    assert value.shape == (2, 4)
    assert len(np.unique(value)) == 8, "the value depends on the observation"
    for one, two in zip(jax.tree.leaves(dist_params), jax.tree.leaves(evaluated), strict=True):
        assert two.shape == (2, 4, 3)
        np.testing.assert_allclose(two[1], one, rtol=1e-5, atol=1e-6)
    last = jax.tree.map(lambda x: x[1], evaluated)
    np.testing.assert_allclose(policy.distribution.log_prob(last, action), log_prob, rtol=1e-4, atol=1e-4)


@BOTH
def test_squashed_actions_stay_in_the_unit_range(network):
    """However wide the Gaussian before the tanh."""
    for squash, inside in ((True, True), (False, False)):
        policy = make(network, squash=squash, init_std=5.0)
        params = jax.jit(policy.init)(jax.random.key(0))
        action, *_ = jax.jit(policy.act)(params, (), percept(50), jax.random.key(2))
        assert (abs(action) < 1).all() == inside


@BOTH
def test_standard_deviation_per_state(network):
    """init_std everywhere at first; then a function of the observation, within its bounds."""
    policy = make(network, state_dependent_std=True, init_std=0.5, min_std=0.1)
    params, evaluate = jax.jit(policy.init)(jax.random.key(0)), jax.jit(policy.evaluate)
    np.testing.assert_allclose(np.exp(evaluate(params, (), percept(1, 4))[0].log_std), 0.5, rtol=1e-6)
    moved = evaluate(initial(policy), (), percept(1, 4))[0]
    assert len(np.unique(moved.log_std)) > 4
    for bias, bound in ((-50.0, 0.1), (50.0, MAX_STD)):
        extreme = {**params, "log_std": {**params["log_std"], "bias": jnp.full(3, bias)}}
        np.testing.assert_allclose(np.exp(evaluate(extreme, (), percept(1, 4))[0].log_std), bound, rtol=1e-5)


@BOTH
def test_log_std_is_a_linear_map_of_the_last_hidden_layer(network):
    """By hand: the mean is a linear map of the same layer, so equal weights give equal numbers."""
    policy = make(network, state_dependent_std=True)
    params = initial(policy)
    params["log_std"] = dict(params["mean"]["Dense_2"])
    dist_params, _ = jax.jit(policy.evaluate)(params, (), percept(1, 4))
    np.testing.assert_allclose(dist_params.log_std, dist_params.mean, rtol=1e-5, atol=1e-6)


@BOTH
@pytest.mark.parametrize(("shared", "widths"), [(False, (6,)), (True, None), (True, (6,))])
def test_a_shared_torso_carries_the_value(network, shared, widths):
    """Its layers change the value, the policy's head does not; the critic's own layers are fewer."""
    policy = make(network, critic_hidden_sizes=widths, shared_torso=shared)
    params, seen = initial(policy), percept(1, 4)

    def slope(params):
        return policy.evaluate(params, (), seen)[1].sum()

    gradient = jax.jit(jax.grad(slope))(params)
    assert bool(gradient["mean"]["Dense_0"]["kernel"].any()) == shared
    assert not gradient["mean"]["Dense_2"]["kernel"].any()
    assert gradient["value"]["Dense_0"]["kernel"].any()
    assert ("Conv_0" in params["value"]) == (network == "conv" and not shared)
    assert ("Dense_1" in params["value"]) == (widths is not None)


@BOTH
def test_a_context_is_an_input(network):
    """What CAVIA adapts: zero at first, and not without effect."""
    policy = make(network, context_size=2)
    params = jax.jit(policy.init)(jax.random.key(0))
    assert params["context"].tolist() == [0, 0]
    means = [policy.evaluate({**params, "context": c}, (), percept(1, 4))[0].mean for c in (jnp.zeros(2), jnp.ones(2))]
    assert (abs(means[0] - means[1]) > 1e-4).all()


@BOTH
@pytest.mark.parametrize("discrete", [True, False])
@pytest.mark.slow
def test_meta_gradients_through_an_inner_step_are_right(network, discrete):
    """Second derivatives of every parameter, against finite differences along a random direction."""
    with jax.enable_x64():
        policy = make(network, discrete, **({"shared_torso": True} if discrete else EVERYTHING))
        params = jax.tree.map(lambda x: x.astype(float), initial(policy))
        seen = percept(3, 4, discrete=discrete)
        action = jnp.ones((3, 4), int) if discrete else jnp.full((3, 4, 3), 0.4).at[0, 0].set(1.0)

        def loss(params):
            dist_params, value = policy.evaluate(params, (), seen)
            return -policy.distribution.log_prob(dist_params, action).mean() + 0.5 * jnp.square(value - 1).mean()

        def adapted_loss(params):
            return loss(jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(loss)(params)))

        gradient = jax.jit(jax.grad(adapted_loss))(params)
        for leaf in jax.tree.leaves(gradient):
            assert np.isfinite(leaf).all()
            assert leaf.any()
        objective, size = jax.jit(adapted_loss), 1e-5
        direction = jax.tree.map(lambda g: jnp.sign(g) + 0.5, gradient)
        ahead, behind = (
            objective(jax.tree.map(lambda p, d, s=sign: p + s * size * d, params, direction)) for sign in (1, -1)
        )
        slope = sum(jnp.vdot(g, d) for g, d in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
        np.testing.assert_allclose((ahead - behind) / (2 * size), slope, rtol=1e-6)


@BOTH
@pytest.mark.parametrize("setting", ["squash", "state_dependent_std"])
def test_options_of_continuous_actions_are_refused_for_discrete_ones(network, setting):
    with pytest.raises(ValueError, match=f"{setting} = True: the actions are discrete"):
        make(network, discrete=True, **{setting: True})


@pytest.mark.parametrize("shared_torso", [True, False])
def test_what_is_privileged_reaches_the_critic_alone(shared_torso):
    """The last two numbers change no distribution and every value; the policy's network has no place for them."""
    policy = mlp_policy(
        (5,), ActionSpec(3), hidden_sizes=(4,), critic_hidden_sizes=(6,), shared_torso=shared_torso, privileged_size=2
    )
    params, evaluate = initial(policy), jax.jit(policy.evaluate)
    assert params["mean"]["Dense_0"]["kernel"].shape == (3, 4)
    seen = Percept(jax.random.normal(jax.random.key(3), (7, 5)), jnp.zeros((7, 3)), *jnp.zeros((2, 7)))
    other = seen._replace(observation=seen.observation.at[:, 3:].add(1.0))
    (dist, value), (other_dist, other_value) = (evaluate(params, (), percept) for percept in (seen, other))
    jax.tree.map(np.testing.assert_array_equal, dist, other_dist)
    assert (value != other_value).all()


@pytest.mark.parametrize(("shape", "size"), [((5,), 5), ((4, 4, 2), 1)])
def test_a_policy_that_would_see_nothing_or_an_image_in_part_is_refused(shape, size):
    with pytest.raises(ValueError, match=f"privileged_size = {size}: must be the last numbers"):
        mlp_policy(shape, ActionSpec(3), privileged_size=size)


class Plain(nn.Module):
    """What a user writes: nothing but ``__call__``."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(4)(x))
        return nn.Dense(3)(x)


def test_any_module_makes_a_policy():
    settings = {"squash": True, "context_size": 2, "init_std": 0.5}
    policy = memoryless_policy(Plain(), MLP((4,), 1), SHAPE, ActionSpec(3), **settings)
    same = memoryless_policy(MLP((4,), 3), MLP((4,), 1), SHAPE, ActionSpec(3), **settings)
    params, seen = initial(same), percept(2, 4)
    assert jax.tree.structure(policy.init(jax.random.key(0))) == jax.tree.structure(params)
    for mine, ours in zip(policy.evaluate(params, (), seen), same.evaluate(params, (), seen), strict=True):
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), mine, ours)


@pytest.mark.parametrize("option", ["shared_torso", "state_dependent_std"])
def test_what_needs_the_last_hidden_layer_says_so(option):
    with pytest.raises(ValueError, match=rf"{option} = True: give Plain a method 'layers'"):
        memoryless_policy(Plain(), MLP((), 1), SHAPE, ActionSpec(3), **{option: True})


def test_anil_does_not_guess_the_head_of_an_unknown_network():
    class Odd(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(3, name="Out")(x)

    with pytest.raises(ValueError, match=r"name it, out of .*mean/Out/kernel"):
        head(memoryless_policy(Odd(), None, SHAPE, ActionSpec(3)))
