"""What methods look for in a policy is found where ``Policy.parts`` says, whatever it is called."""

import functools

import jax
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import anil, cavia, maml
from metarl_jax.algorithms.gradient.cavia import _hold
from metarl_jax.networks import conv_policy, mlp_policy, recurrent_policy
from metarl_jax.ops import trees
from metarl_jax.tasks import navigation_finn
from metarl_jax.types import ActionSpec, Parts

FAMILY = navigation_finn(horizon=3)
OURS = mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,), critic_hidden_sizes=(3,), context_size=2)
NAMES = {"mean": "actor", "value": "worth", "context": "situation"}
HEAD = "actor/Dense_1"
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def rename(params, names):
    return {names.get(name, name): leaf for name, leaf in params.items()}


def original(params):
    return rename(params, {theirs: ours for ours, theirs in NAMES.items()})


# Our policy, with all its parameters under names of a user's own.
OWN = OURS._replace(
    init=lambda key: rename(OURS.init(key), NAMES),
    act=lambda params, *rest: OURS.act(original(params), *rest),
    evaluate=lambda params, *rest: OURS.evaluate(original(params), *rest),
    parts=Parts(head=(HEAD,), critic=("worth",), context=("situation",)),
)


def make(factory, policy, **settings):
    return factory(family=FAMILY, policy=policy, optimizer=optax.adam(1e-2), episodes_per_task=3, **settings)


@pytest.fixture(scope="module")
def params():
    """Away from the start: a context of zeros hides what stands on it."""
    params = jit(OURS.init)(jax.random.key(0))
    return jax.tree.map(lambda x: x + 0.1, params)


@pytest.fixture(scope="module")
def stages(params):
    return jit(make(maml, OURS).collect)(params, FAMILY.sample(jax.random.key(1)), jax.random.key(2))[1]


@pytest.mark.parametrize(
    ("factory", "settings", "moved"),
    [
        (maml, {"critic_lr_scale": 3.0}, {"actor", "worth", "situation", "log_std"}),
        (maml, {"critic_lr_scale": 0.0}, {"actor", "situation", "log_std"}),
        (anil, {}, {HEAD}),
        (cavia, {}, {"situation"}),
    ],
    ids=["three", "never", "anil", "cavia"],
)
def test_an_own_policy_adapts_as_ours_does(params, stages, factory, settings, moved):
    """The same numbers under its names, and what does not adapt is exactly what is not named."""
    before = rename(params, NAMES)
    expected = jit(make(factory, OURS, **settings).replay)(params, stages)[0]
    adapted = jit(make(factory, OWN, **settings).replay)(before, stages)[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), adapted, rename(expected, NAMES))
    start = trees.by_path(before)
    changed = {path for path, leaf in trees.by_path(adapted).items() if not np.array_equal(leaf, start[path])}
    assert changed == {path for path in start if trees.is_below(path, moved)}


def test_the_critics_steps_are_scaled_and_no_others(params, stages):
    before = rename(params, NAMES)
    once, thrice = (
        trees.by_path(jit(make(maml, OWN, critic_lr_scale=scale).replay)(before, stages)[0]) for scale in (1.0, 3.0)
    )
    for path, start in trees.by_path(before).items():
        factor = 3.0 if path.startswith("worth/") else 1.0
        np.testing.assert_allclose(thrice[path] - start, factor * (once[path] - start), rtol=1e-4, atol=1e-6)


def test_cavia_holds_a_declared_context_in_the_outer_step(params):
    """No meta-gradient for it and all that is below it; the others' are left as they are."""
    gradient = {**rename(params, NAMES), "situation": {"slow": params["context"], "fast": params["context"]}}
    hold = _hold(("situation",))
    held, _ = hold.update(gradient, hold.init(gradient))
    zeros = jax.tree.map(lambda x: 0.0 * x, gradient["situation"])
    jax.tree.map(np.testing.assert_array_equal, held, {**gradient, "situation": zeros})


@pytest.mark.parametrize("part", Parts._fields)
def test_a_part_that_is_not_there_is_refused(part):
    """A slip of the pen would leave the critic's steps unscaled, silently."""
    policy = OWN._replace(parts=OWN.parts._replace(**{part: ("wroth",)}))
    with pytest.raises(ValueError, match=rf"policy.parts.{part} = 'wroth': is no parameter of the policy; .*worth/"):
        make(maml, policy)


def test_what_is_not_declared_is_refused():
    unknown = OWN._replace(parts=Parts())
    assert not unknown.has_critic
    with pytest.raises(ValueError, match=r"the head of this policy is not known; name it, out of actor/Dense_0/bias"):
        make(anil, unknown)
    with pytest.raises(ValueError, match="without a context"):
        make(cavia, unknown)
    with pytest.raises(ValueError, match="baseline = 'critic': needs a policy with a critic"):
        make(maml, unknown, baseline="critic")


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (OURS, Parts(("mean/Dense_1",), ("value",), ("context",))),
        (mlp_policy((2,), ActionSpec(3, discrete=True), hidden_sizes=()), Parts(("logits/Dense_0",))),
        (
            mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,) * 11, shared_torso=True),
            Parts(("mean/Dense_11",), ("value",)),
        ),
        (conv_policy((4, 4, 1), ActionSpec(2), hidden_sizes=(4, 4)), Parts(("mean/Dense_2",))),
        (recurrent_policy((2,), ActionSpec(2)), Parts(("mean/Dense_0",), ("value",), memory=("cell",))),
        (
            recurrent_policy((2,), ActionSpec(3, discrete=True), memory_slots=4),
            Parts(("logits/Dense_0",), ("value",), memory=("cell", "associative")),
        ),
    ],
    ids=["mlp", "linear", "deep", "conv", "recurrent", "associative"],
)
def test_our_policies_declare_what_they_have(policy, expected):
    """Every path leads to parameters; the head's have one output for each component of the action."""
    assert policy.parts == expected
    leaves = trees.by_path(jax.eval_shape(policy.init, jax.random.key(0)))
    for name in jax.tree.leaves(tuple(policy.parts)):
        assert any(trees.is_below(path, (name,)) for path in leaves)
    assert leaves[f"{policy.parts.head[0]}/bias"].shape == ((3,) if "logits" in policy.parts.head[0] else (2,))
