"""What a factory declares of its method's adaptation, in terms of its own arguments."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import metarl_jax as mrl
from metarl_jax.algorithms.adaptation import Remake, Settings, adapts
from metarl_jax.algorithms.gradient.budget import by_gradient_steps, meta_test_step_sizes
from metarl_jax.checks import Refusal, checked, passes_on
from metarl_jax.config.schema import keyword_arguments
from metarl_jax.types import Adaptation, MetaAlgorithm, NonNegativeFloat, NonNegativeInt, PositiveInt

CALLS: list[dict[str, Any]] = []


def loop(
    *,
    inner_lr: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 0.1,
    num_inner_steps: NonNegativeInt = 1,
    episodes_per_task: PositiveInt = 20,
    discount: NonNegativeFloat = 0.9,
) -> None:
    """The arguments of an inner loop."""


def record(family: str, **settings: Any) -> MetaAlgorithm:
    CALLS.append({"family": family, **settings})
    nothing: Any = lambda *_: None  # noqa: E731
    return MetaAlgorithm(nothing, nothing, nothing)


@checked
@passes_on(loop)
@adapts(by_gradient_steps)
def outer(family: str, *, num_inner_steps: NonNegativeInt = 2, **inner: Any) -> MetaAlgorithm:
    """A method with a default of its own."""
    return record(family, num_inner_steps=num_inner_steps, **inner)


@adapts(by_gradient_steps)
@checked
@passes_on(loop)
def outermost(family: str, *, num_inner_steps: NonNegativeInt = 2, **inner: Any) -> MetaAlgorithm:
    """The same, decorated in another order."""
    return record(family, num_inner_steps=num_inner_steps, **inner)


def adaptation_of(algorithm: MetaAlgorithm) -> Adaptation:
    assert algorithm.adaptation is not None
    return algorithm.adaptation


@pytest.mark.parametrize("factory", [outer, outermost])
def test_the_factory_is_called_again_with_all_else_the_same(factory: Any) -> None:
    """Defaults count, those that are passed on too; the order of the decorators does not matter."""
    adaptation = adaptation_of(factory("a", discount=0.5))
    assert adaptation[:3] == ("gradient step", 2, 3)
    assert adaptation.step_sizes == (0.1, 0.1)
    more = adaptation_of(adaptation.with_budget(3, 7, "finn"))
    sizes = (0.1, 0.05, 0.05)
    assert CALLS[-1] == {
        "family": "a",
        "discount": 0.5,
        "inner_lr": sizes,
        "num_inner_steps": 3,
        "episodes_per_task": 7,
    }
    assert more[:3] == ("gradient step", 3, 4)
    assert more.step_sizes == sizes


def test_a_config_and_a_check_see_the_factory_as_it_is() -> None:
    assert keyword_arguments(outer) == {**keyword_arguments(loop), **keyword_arguments(outermost)}
    assert outer.__doc__ == "A method with a default of its own."
    with pytest.raises(Refusal, match="discont = 1: unknown argument of outer; did you mean 'discount'"):
        outer("a", discont=1)
    with pytest.raises(Refusal, match="num_inner_steps = -1: must be at least 0"):
        adaptation_of(outer("a")).with_budget(-1, 1, "constant")


def test_a_factory_that_calls_another_declares_its_own() -> None:
    def by_halves(settings: Settings, remake: Remake) -> Adaptation:
        return Adaptation("half", 2 * settings["whole"], 1, lambda units, *_: remake(whole=units // 2))

    @adapts(by_halves)
    def above(family: str, *, whole: int = 4) -> MetaAlgorithm:
        return outer(family, num_inner_steps=whole)

    adaptation = adaptation_of(above("a"))
    assert adaptation[:2] == ("half", 8)
    assert adaptation_of(adaptation.with_budget(6, 1, "constant"))[:2] == ("half", 6)
    assert CALLS[-1]["num_inner_steps"] == 3


def test_step_size_rules() -> None:
    assert meta_test_step_sizes(0.5, 3, "constant") == (0.5, 0.5, 0.5)
    assert meta_test_step_sizes(0.5, 3, "finn") == (0.5, 0.25, 0.25)
    assert meta_test_step_sizes((0.3, 0.2), 3, "constant") == (0.3, 0.2, 0.2)
    assert meta_test_step_sizes((0.4, 0.3), 3, "finn") == (0.4, 0.2, 0.2)
    assert meta_test_step_sizes(0.5, 0, "finn") == ()
    assert meta_test_step_sizes(np.array([0.5, 0.25]), 3, "constant") == (0.5, 0.25, 0.25)  # type: ignore[arg-type]


def test_without_any_step_size_there_are_no_steps() -> None:
    """As after training without inner steps, for each of which one was given."""
    adaptation = adaptation_of(outer("a", num_inner_steps=0, inner_lr=()))
    assert adaptation.with_budget(0, 1, "finn").adaptation is not None
    for rule in ("finn", "constant"):
        with pytest.raises(Refusal, match=r"inner_lr = \(\): there is none to take a step with: give one"):
            adaptation.with_budget(1, 1, rule)


def test_step_sizes_may_be_traced() -> None:
    """A sweep over them goes through the factory."""

    def halved(inner_lr: jax.Array) -> jax.Array:
        adaptation = adaptation_of(outer("a", inner_lr=inner_lr))
        return jnp.stack(adaptation_of(adaptation.with_budget(2, 1, "finn")).step_sizes)

    np.testing.assert_allclose(jax.vmap(halved)(jnp.array([0.2, 0.4])), [[0.2, 0.1], [0.4, 0.2]])


@pytest.mark.parametrize(
    ("name", "settings", "differentiates"),
    [
        ("maml", {}, True),
        ("maml", {"first_order": True}, False),
        ("maml", {"num_inner_steps": 0, "inner_lr": ()}, False),
        ("fomaml", {}, False),
        ("promp", {}, True),
        ("trpo_maml", {}, True),
        ("reptile", {}, False),
        ("pretraining", {}, False),
    ],
)
def test_a_method_declares_whether_it_differentiates_its_steps(
    name: str, settings: dict[str, Any], differentiates: bool
) -> None:
    family = mrl.tasks.navigation_finn(horizon=5)
    policy = mrl.networks.mlp_policy(family.observation_shape, family.action, hidden_sizes=(4,))
    optimizer = () if name == "trpo_maml" else (optax.sgd(0.1),)
    method = getattr(mrl.algorithms, name)(family, policy, *optimizer, **settings)
    assert adaptation_of(method).second_derivatives is differentiates
