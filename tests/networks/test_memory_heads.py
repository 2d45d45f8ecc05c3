"""How heads are shown a memory: each kind by hand, and how a hypernetwork starts and is differentiated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metarl_jax.networks.heads import action_head
from metarl_jax.networks.memory_heads import Layers, Present, Sizes, heads_by_name
from metarl_jax.networks.mlp import MLP
from metarl_jax.types import ActionSpec

B, SIZES = 3, Sizes(remembered=4, inputs=6, observation=2, privileged=1)
HEAD = action_head(ActionSpec(3), init_std=1.0, min_std=1e-6)


def draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def make(name, shared=(5, 4), **widths):
    heads = heads_by_name(name, HEAD, SIZES, Layers(shared, **widths))
    return heads, jax.jit(heads.init)(*jax.random.split(jax.random.key(0), 3))


def shaken(params):
    return jax.tree.map(lambda x: x + 0.3 * draw(x.size, *x.shape), params)


def given():
    remembered = draw(1, B, SIZES.remembered)
    return remembered, Present(draw(2, B, SIZES.inputs), draw(3, B, SIZES.observation), draw(4, B, SIZES.privileged))


def dense(layer, x):
    return x @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])


def by_hand(params, seen, privileged):
    """Mean and value of layers over what is seen."""
    known = np.asarray(seen)
    for i in range(len(params.get("shortcut", ()))):
        known = np.tanh(dense(params["shortcut"][f"Dense_{i}"], known))
    value = dense(params["value"]["Dense_0"], np.concatenate([known, privileged], axis=-1))
    return dense(params["mean"]["Dense_0"], known), value[..., 0]


def assert_decides(heads, params, expected):
    dist_params, value = jax.jit(heads.decide)(params, *given())
    np.testing.assert_allclose(dist_params.mean, expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shared", [(), (5,)])
def test_plain_heads_see_the_memory_and_with_layers_its_input(shared):
    heads, params = make("plain", shared)
    params, (remembered, present) = shaken(params), given()
    seen = np.concatenate([remembered, present.inputs], axis=-1) if shared else remembered
    assert_decides(heads, params, by_hand(params, seen, present.privileged))


def test_state_heads_see_the_memory_and_the_observation():
    """Each through a layer of its own."""
    heads, params = make("state", state=(7,), latent=(2,))
    params, (remembered, present) = shaken(params), given()
    latent = np.tanh(dense(params["latent"]["Dense_0"], remembered))
    state = np.tanh(dense(params["state"]["Dense_0"], present.observation))
    assert_decides(heads, params, by_hand(params, np.concatenate([latent, state], axis=-1), present.privileged))
    assert "hypernetwork" not in params


def test_a_generated_head_is_a_linear_function_of_its_input():
    heads, params = make("generated", ())
    params, (remembered, present) = shaken(params), given()
    _, expected = by_hand(params, remembered, present.privileged)
    changes = params["hypernetwork"]["mean"]["Dense_0"]
    means = []
    for one in np.asarray(remembered):
        kernel = np.tensordot(one, np.reshape(changes["kernel"], (4, 4, 3)), axes=1)
        means.append(dense(params["mean"]["Dense_0"], one) + one @ kernel + one @ changes["bias"])
    assert_decides(heads, params, (np.stack(means), expected))
    assert set(params["hypernetwork"]) == {"mean"}


@pytest.mark.parametrize("latent", [(), (2,)])
def test_a_hypernetwork_emits_all_weights_of_a_network_of_the_observation(latent):
    """Each lane by a network of its own, laid out."""
    heads, params = make("hypernetwork", latent=latent)
    params, (remembered, present) = shaken(params), given()
    latents = np.tanh(dense(params["latent"]["Dense_0"], remembered)) if latent else remembered
    rows = []
    for lane, z in enumerate(np.asarray(latents)):

        def emit(weights, changes, z=z):
            return weights + np.tensordot(z, np.reshape(changes, (-1, *weights.shape)), axes=1)

        emitted = {name: params[name] for name in ("shortcut", "mean", "value")}
        emitted = jax.tree.map(emit, emitted, params["hypernetwork"])
        rows.append(by_hand(emitted, present.observation[lane], present.privileged[lane]))
    assert_decides(heads, params, [np.stack(column) for column in zip(*rows, strict=True)])


def test_a_hypernetwork_starts_as_one_network_whatever_is_remembered_and_learns():
    """Bias-HyperInit: exactly the ordinary network on its initial weights; the gradient leaves it."""
    heads, params = make("hypernetwork", latent=(2,))
    _, present = given()
    net = MLP((5, 4), 3)
    layers = {**params["shortcut"], "Dense_2": params["mean"]["Dense_0"]}
    expected = net.apply({"params": layers}, present.observation)
    for seed in range(3):
        found, _ = heads.decide(params, 10.0 * draw(seed, B, SIZES.remembered), present)
        np.testing.assert_array_equal(found.mean, expected)

    def loss(params):
        dist_params, value = heads.decide(params, *given())
        return jnp.square(dist_params.mean).sum() + jnp.square(value).sum()

    gradient = jax.jit(jax.grad(loss))(params)["hypernetwork"]
    assert jax.tree.structure(gradient) == jax.tree.structure({k: params[k] for k in ("shortcut", "mean", "value")})
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", ["generated", "state", "hypernetwork"])
def test_gradients_are_those_of_finite_differences(name):
    """By all parameters and what is remembered, away from the start; in double precision."""
    with jax.enable_x64(True):
        heads, params = make(name, **({} if name == "generated" else {"state": (3,), "latent": (2,)}))
        remembered, present = given()

        def loss(params, remembered):
            dist_params, value = heads.decide(params, remembered, present)
            return jnp.square(dist_params.mean).sum() + jnp.square(value).sum()

        check_grads(jax.jit(loss), (shaken(params), remembered), order=1, modes=["rev"], eps=1e-6)


def test_paths_lead_to_what_is_the_policys_and_what_the_values():
    """Of emitted heads the weights and their changes."""
    for name in ("plain", "generated", "state", "hypernetwork"):
        heads, params = make(name)
        for path in (*heads.policy, *heads.value):
            inside = params
            for key in path.split("/"):
                inside = inside[key]
        assert [len(heads.policy), len(heads.value)] == {"generated": [2, 1], "hypernetwork": [2, 2]}.get(name, [1, 1])
