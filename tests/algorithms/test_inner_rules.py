"""Which inner rules a method can take: one that learns nothing from its rule's parameters refuses them."""

import jax
import optax
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import ConfigError, config_from_dict
from metarl_jax.inner.rules import learned_update
from metarl_jax.networks import mlp_policy
from metarl_jax.runs.build import build
from metarl_jax.runs.program import make_program
from metarl_jax.tasks import navigation_corner
from metarl_jax.types import MetaAlgorithm

FAMILY = navigation_corner(horizon=2)
POLICY = mlp_policy(FAMILY.observation_shape, FAMILY.action, hidden_sizes=(2,))


def make(method: str, **settings) -> MetaAlgorithm:
    return ALGORITHMS[method](FAMILY, POLICY, optax.sgd(1e-3), episodes_per_task=2, **settings)


@pytest.mark.parametrize(
    "rule", [{"inner_rule": "learned_step_sizes"}, {"inner_rule": "learned"}, {"rule": learned_update}]
)
@pytest.mark.parametrize("method", ["reptile", "pretraining"])
def test_a_rule_that_would_stay_as_it_starts_is_refused(method, rule):
    (name,) = rule
    with pytest.raises(ValueError, match=rf"^{name} = .*: .* choose sgd, momentum or adam, or a method that learns it"):
        make(method, **rule)


@pytest.mark.parametrize("method", ["pretraining", "reptile"])
def test_rules_with_nothing_to_learn_train_and_adapt_by_more_steps(method):
    training = make(method, inner_rule="adam", num_inner_steps=1)
    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.eval_shape(training.init, keys[0])
    state, _ = jax.eval_shape(training.update, state, jax.vmap(FAMILY.sample)(keys), keys)
    testing = make(method, inner_rule="adam", num_inner_steps=3)
    _, info = jax.eval_shape(testing.adapt, state.params, FAMILY.sample(keys[0]), keys[1])
    assert info["return"].shape == (4, 2)


@pytest.mark.parametrize(("method", "settings"), [("maml", {"inner_rule": "learned"}), ("meta_sgd", {})])
def test_a_rule_is_not_learned_from_no_steps(method, settings):
    algorithm = make(method, num_inner_steps=0, **settings)
    keys = jax.random.split(jax.random.key(0), 2)
    state = jax.eval_shape(algorithm.init, keys[0])
    with pytest.raises(ValueError, match=r"num_inner_steps = 0: a learned inner rule needs 1 or more"):
        jax.eval_shape(algorithm.update, state, jax.vmap(FAMILY.sample)(keys), keys)


@pytest.mark.parametrize(("method", "settings"), [("meta_sgd", {}), ("maml", {"rule": learned_update})])
def test_a_rule_by_name_beside_another_is_refused(method, settings):
    with pytest.raises(ValueError, match=r"inner_rule = 'adam': .* leave inner_rule out"):
        make(method, inner_rule="adam", **settings)


def test_meta_sgd_has_a_rule_of_its_own():
    with pytest.raises(ValueError, match=r"rule = .*meta_sgd has its own"):
        make("meta_sgd", rule=learned_update)


@pytest.mark.parametrize(
    ("algorithm", "message"),
    [
        ({"name": "pretraining", "inner_rule": "learned_step_sizes"}, "algorithm.inner_rule = 'learned_step_sizes': "),
        ({"name": "maml", "inner_rule": "learned", "num_inner_steps": 0}, "algorithm.num_inner_steps = 0: "),
    ],
)
def test_a_config_is_refused_in_the_same_words(algorithm, message):
    config = config_from_dict({"tasks": {"name": "navigation_corner", "horizon": 2}, "algorithm": algorithm})
    with pytest.raises(ConfigError, match=message):
        make_program(build(config), jax.devices()[:1])
