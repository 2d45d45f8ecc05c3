"""What factories refuse at construction, and the one exception they do it with."""

import inspect
import pickle
import re
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from annotated_types import Gt, MinLen
from pydantic import ValidationError, create_model

from metarl_jax import rollout
from metarl_jax.algorithms import ALGORITHMS, cavia, maml, meta_sgd, promp, rl2, trpo_maml
from metarl_jax.algorithms.gradient.emaml import emaml_loss
from metarl_jax.algorithms.gradient.maml import maml_objective
from metarl_jax.checks import Refusal, Traced, allowed, arguments, checked, fits, is_traceable, passes_on, schema_of
from metarl_jax.config import ConfigError
from metarl_jax.config.schema import Section, keyword_arguments, takes_optimizer, traceable_keys
from metarl_jax.diagnostics.gradient_check import check_gradients
from metarl_jax.inner import make_inner_loop
from metarl_jax.inner.rules import make_rule
from metarl_jax.networks import POLICIES, conv_policy, in_context_policy, mlp_policy, recurrent_policy
from metarl_jax.ops.surrogates import make_surrogate
from metarl_jax.runs.snapshot import CheckpointError
from metarl_jax.tasks import FAMILIES, bandit_bernoulli, navigation_corner, navigation_finn
from metarl_jax.tasks.adapters.brax import brax_family, load_env
from metarl_jax.tasks.adapters.gymnax import gymnax_family
from metarl_jax.tasks.adapters.playground import playground_family
from metarl_jax.tasks.navigation.point import goal_reward, point_family
from metarl_jax.tasks.wrappers.oracle import with_critic_oracle
from metarl_jax.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt, Seed

FAMILY = navigation_finn(horizon=3)
POLICY = mlp_policy(FAMILY.observation_shape, FAMILY.action, hidden_sizes=(2,), shared_torso=True)
MEMORY = recurrent_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=2)
CONTEXT = in_context_policy(FAMILY.observation_shape, FAMILY.action, size=2, num_layers=1, num_heads=1)
MADE_FOR = {"rl2": "recurrent", "trpo_rl2": "recurrent", "ad": "recurrent", "dpt": "in_context", "varibad": "belief"}
"""The policy of a method, if that is not ``mlp``."""
ADAM = optax.adam(1e-3)

# One exception.


def test_a_refusal_says_what_was_refused_and_why() -> None:
    refusal = pickle.loads(pickle.dumps(Refusal("horizon", -1, "must be greater than 0")))
    assert (refusal.name, refusal.value, refusal.remedy) == ("horizon", -1, "must be greater than 0")
    assert str(refusal) == "horizon = -1: must be greater than 0"
    assert len(str(Refusal("sizes", list(range(1000)), "too many"))) < 110


@pytest.mark.parametrize("error", [ConfigError("a: x", "b: y"), CheckpointError("a: x\nb: y")])
def test_every_refusal_is_of_one_type_and_survives_pickling(error: Refusal) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, Refusal)
    assert type(copy) is type(error)
    assert str(copy) == copy.remedy == "a: x\nb: y"


# Annotations are enforced, as YAML enforces them.

CANDIDATES = (
    *(None, True, -1, 0, 1, 3, 0.5, -0.5, 1.5, float("nan"), float("inf"), 2**40, "foo", ""),
    *((), (1,), (-1,), (0.5,), (True,), ("foo",), (1, 2), (float("nan"),), {}, ((1,),)),
    *(1e39, 1e-300, (0.5, 1e-300)),  # infinite and zero, as they would be computed with
)


def accepted_in_yaml(annotation: Any) -> list[Any]:
    model = create_model("Section", __base__=Section, key=(annotation, ...))

    def is_accepted(value: Any) -> bool:
        try:
            model.model_validate({"key": value})
        except ValidationError:
            return False
        return True

    return [value for value in CANDIDATES if is_accepted(value)]


def calls() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """Every public factory, and how to call it with nothing but one more argument."""
    found: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
    for name, factory in ALGORITHMS.items():
        policy = {"recurrent": MEMORY, "in_context": CONTEXT}.get(MADE_FOR.get(name, ""), POLICY)
        found[name] = factory, partial(factory, FAMILY, policy, *([ADAM] if takes_optimizer(factory) else []))
    for name, factory in POLICIES.items():
        found[name] = factory, partial(factory, (3,), FAMILY.action)
    for name, factory in FAMILIES.items():
        found[name] = factory, factory
    found["make_inner_loop"] = make_inner_loop, partial(make_inner_loop, FAMILY, POLICY)
    for adapter in (brax_family, gymnax_family, playground_family):
        given = {"sample": None, "reward": None, "horizon": 5}
        found[adapter.__name__] = adapter, lambda adapter=adapter, given=given, **one: adapter(None, **(given | one))
    given = {"sample": None, "start": None, "reward_and_end": None, "max_push": 1.0, "action_scale": 1.0, "horizon": 5}
    found["point_family"] = point_family, lambda **one: point_family(**(given | one))
    return found


CALLS = calls()


@pytest.mark.parametrize("name", CALLS)
def test_every_annotated_argument_is_held_to_what_yaml_allows(name: str) -> None:
    factory, call = CALLS[name]
    keywords = {key: one for key, one in arguments(factory).items() if one.parameter.kind is one.parameter.KEYWORD_ONLY}
    for key, argument in keywords.items():
        if not argument.schema:
            continue  # a function of the user's
        accepted = accepted_in_yaml(argument.annotation)
        assert [value for value in CANDIDATES if fits(value, argument.schema)] == accepted, key
        for value in (value for value in CANDIDATES if value not in accepted):
            with pytest.raises(Refusal, match=r": must be \S") as caught:
                call(**{key: value})
            assert caught.value.name == key
            assert caught.value.value is value


def test_most_arguments_of_every_factory_are_held_to_something() -> None:
    unheld = {key for factory, _ in CALLS.values() for key, one in arguments(factory).items() if not one.schema}
    functions = {"rule", "sample", "sample_held_out", "sample_beyond", "reward", "terminated", "physics", "params"}
    assert unheld <= functions | {"env", "model", "start", "reward_and_end", "move", "observe", "walls"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maml(FAMILY, POLICY, ADAM, clip_eps=-1), "clip_eps = -1: must be a number greater than 0 or null"),
        (lambda: maml(FAMILY, POLICY, ADAM, num_epochs=0), "num_epochs = 0: must be greater than 0"),
        (lambda: maml(FAMILY, POLICY, ADAM, gae_lambda=3), "gae_lambda = 3: must be at least 0 and at most 1"),
        (lambda: maml(FAMILY, POLICY, ADAM, baseline="foo"), "baseline = 'foo': must be one of linear_feature, zero"),
        (lambda: maml(FAMILY, POLICY, ADAM, estimator="lvc"), "estimator = 'lvc': must be one of log_likelihood"),
        (lambda: maml(FAMILY, POLICY, ADAM, inner_lr=np.array([0.1, -1.0])), "inner_lr = array.*: must be at least 0"),
        (
            lambda: maml(FAMILY, POLICY, ADAM, inner_lr=True),
            "inner_lr = True: must be a number of at least 0 or",
        ),
        (
            lambda: maml(FAMILY, POLICY, ADAM, inner_lr=(0.1, 1e39)),
            r"inner_lr = \(.*: must be a list of numbers of at least 0; single precision has 0 and sizes from 1\.2e-38",
        ),
        (
            lambda: trpo_maml(FAMILY, POLICY, max_kl=1e-300),
            r"max_kl = 1e-300: must be a number greater than 0; single precision has 0 and sizes from 1\.2e-38 to 3",
        ),
        (lambda: maml(POLICY, FAMILY, ADAM), r"family = Policy\(.*: must be of type TaskFamily"),
        (lambda: maml(FAMILY, FAMILY, ADAM), r"policy = TaskFamily\(.*: must be of type Policy"),
        (lambda: maml(FAMILY, POLICY, optax.adam), "optimizer = <function adam.*: must be of type GradientTransf"),
        (lambda: trpo_maml(FAMILY, POLICY, backtrack_ratio=5), "backtrack_ratio = 5: must be greater than 0 and less"),
        (lambda: navigation_corner(reward="foo"), "reward = 'foo': must be one of sparse, dense, squared"),
        (lambda: make_surrogate("lvc"), "estimator = 'lvc': must be one of log_likelihood"),
        (lambda: make_rule("sdg", jnp.ones(1)), "name = 'sdg': must be one of sgd"),
        (lambda: maml_objective("first"), "outer_stages = 'first': must be one of last"),
        (lambda: goal_reward("foo", lambda *_: jnp.zeros(())), "kind = 'foo': must be one of sparse"),
        (lambda: load_env("ant", "bullet"), "backend = 'bullet': must be one of spring"),
        (lambda: rollout(FAMILY, POLICY, (), (), jax.random.key(0), 0), "num_episodes = 0: must be greater than 0"),
        (lambda: check_gradients(sample_sizes=()), r"sample_sizes = \(\): must be a list of .*, at least 1 of them"),
        (lambda: conv_policy((5, 5, 1), FAMILY.action, channels=(0,)), r"channels = \(0,\): must be a list of whole n"),
        (
            lambda: emaml_loss(make_inner_loop(FAMILY, POLICY), "last", "total", 1.0),
            "form = 'total': must be one of sum, mean",
        ),
    ],
)
def test_refusals_name_the_value_and_what_is_allowed(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(Refusal, match=f"^{message}"):
        call()


@pytest.mark.parametrize(
    "settings",
    [
        {"inner_lr": 1, "num_epochs": np.int64(2)},
        {"inner_lr": np.float32(0.1), "first_order": np.True_},
        {"inner_lr": jnp.array(0.1), "clip_eps": jnp.bfloat16(0.2), "adapted": ["mean"]},
        {"inner_lr": np.array([0.1, 0.2]), "num_inner_steps": 2},
        {"inner_lr": [0.1, 0.2], "num_inner_steps": jnp.array(2), "outer_stages": "all", "outer_weights": [1, 0, 2]},
    ],
)
def test_numbers_of_every_library_and_lists_are_taken(settings: dict[str, Any]) -> None:
    maml(FAMILY, POLICY, ADAM, **settings)


def test_lists_mean_what_tuples_mean() -> None:
    policy = mlp_policy([2], FAMILY.action, hidden_sizes=[2], context_size=1)
    cavia(FAMILY, policy, ADAM, adapted=["context"])  # compared with a tuple


# Keywords.


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: maml(FAMILY, POLICY, ADAM, foo=1), "foo = 1: unknown argument of maml; valid arguments: .*inner_lr.*"),
        (
            lambda: meta_sgd(FAMILY, POLICY, ADAM, iner_lr=1),
            "iner_lr = 1: unknown argument of meta_sgd; did you mean 'inner_lr'",
        ),
        (lambda: navigation_finn(horizn=3), "horizn = 3: unknown argument of navigation_finn; did you mean 'horizon'"),
    ],
)
def test_unknown_keywords_say_what_is_allowed(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(Refusal, match=message):
        call()


def test_a_factory_must_declare_where_its_keywords_go() -> None:
    def target(*, inner_lr: NonNegativeFloat = 0.1) -> float:
        """Args:
        inner_lr: a step.
        """
        return inner_lr

    def undeclared(family: Any, **keywords: Any) -> float:
        return target(**keywords)

    @passes_on(undeclared)
    def through(family: Any, **keywords: Any) -> float:
        return undeclared(family, **keywords)

    for factory in (undeclared, through):
        with pytest.raises(TypeError, match=rf"{factory.__name__}: where does \*\*keywords go"):
            keyword_arguments(factory)
        with pytest.raises(TypeError, match=rf"{factory.__name__}: where does \*\*keywords go"):
            checked(factory)
    declared = passes_on(target)(undeclared)
    assert list(keyword_arguments(declared)) == ["inner_lr"]
    assert checked(declared)(None, inner_lr=2) == 2
    with pytest.raises(Refusal, match="inner_lr = -1: must be at least 0"):
        checked(declared)(None, inner_lr=-1)


def test_keywords_for_another_library_are_its_to_check_and_no_keys_of_a_config() -> None:
    @checked
    @passes_on(None)
    def make(name: str, **settings: Any) -> dict[str, Any]:
        return settings

    @checked
    @passes_on(make)
    def make_twice(**settings: Any) -> list[dict[str, Any]]:
        return [make("x", **settings), make("y", **settings)]

    assert make("x", ctrl_cost=-1.0) == {"ctrl_cost": -1.0}
    assert make_twice(ctrl_cost=-1.0) == [{"ctrl_cost": -1.0}] * 2
    with pytest.raises(Refusal, match="name = 3: must be text"):
        make(3)
    with pytest.raises(TypeError, match=r"make: where does \*\*settings go"):
        keyword_arguments(make)


def test_of_several_factories_the_chosen_one_takes_the_keywords_and_others_are_refused() -> None:
    def step(size: int, *, rate: PositiveFloat = 0.5, momentum: NonNegativeFloat | None = None) -> Any:
        """One of two.

        Args:
          rate: how far.
        """
        return ("step", size, rate, momentum)

    def jump(size: int, *, rate: PositiveInt = 3, times: PositiveInt) -> Any:
        """One of two.

        Args:
          rate: how often.
          times: again.
        """
        return ("jump", size, rate, times)

    kinds = {"step": step, "jump": jump}

    @checked
    @passes_on(kinds, chosen_by="kind")
    def move(*, kind: str = "step", size: int = 1, **options: Any) -> Any:
        """One of two.

        Args:
          kind: which.
        """
        return kinds[kind](size, **options)

    assert move() == ("step", 1, 0.5, None)
    assert move(kind="jump", rate=None, times=2, momentum=None) == ("jump", 1, 3, 2)
    for given, message in [
        ({"times": 2}, "times = 2: must be left out: it is of kind jump, not of step"),
        ({"kind": "jump", "momentum": 0.0}, "momentum = 0.0: must be left out: it is of kind step, not of jump"),
        ({"rate": -1}, "rate = -1: must be a number greater than 0 or a whole number greater than 0 or null"),
        ({"kind": "jump"}, "times = None: must be given for kind jump"),
        ({"pace": 1}, "pace = 1: unknown argument of move"),
    ]:
        with pytest.raises(Refusal, match=f"^{message}"):
            move(**given)
    keys = keyword_arguments(move)
    assert {key: default.default for key, (default, _, _) in keys.items()} == {
        "kind": "step", "size": 1, "rate": None, "momentum": None, "times": None,
    }  # fmt: skip
    assert keys["rate"][2] == "Of step (0.5 if null): how far. Of jump (3 if null): how often."
    assert [keys[key][2] for key in ("momentum", "times")] == ["Of step: momentum", "Of jump (required): again."]


def test_a_checked_factory_looks_like_itself() -> None:
    def walk(steps: PositiveInt, *, pace: Traced[PositiveFloat] = 1.0) -> float:
        """Walk."""
        return steps * pace

    wrapped = checked(walk)
    assert inspect.signature(wrapped) == inspect.signature(walk)
    assert get_type_hints(wrapped, include_extras=True) == get_type_hints(walk, include_extras=True)
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__module__) == ("walk", "Walk.", __name__)
    assert wrapped(2, pace=3) == wrapped(steps=2, pace=3) == 6
    with pytest.raises(Refusal, match="steps = 0: must be greater than 0"):
        wrapped(0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'steps'"):
        wrapped()  # type: ignore[call-arg]


def test_what_is_imported_for_the_type_checker_only_is_not_checked() -> None:
    @checked
    def load(env: "NotImported", *, horizon: PositiveInt) -> Any:  # type: ignore[name-defined]  # noqa: F821
        return env

    assert load("anything", horizon=1) == "anything"
    with pytest.raises(Refusal, match="horizon = 0"):
        load(None, horizon=0)


@pytest.mark.parametrize(
    "annotation",
    [
        *(int, float, bool, str, None, Any, Seed, Fraction, Literal["foo", "bar"], Literal["foo", 3] | None),
        *(tuple[int, ...], tuple[int, int], tuple[Fraction, ...] | None, Annotated[tuple[int, ...], MinLen(1)]),
        *(Annotated[str, MinLen(1)], Traced[PositiveFloat | tuple[PositiveFloat, ...]], tuple[tuple[int, ...], ...]),
    ],
)
def test_annotations_mean_what_they_mean_in_yaml(annotation: Any) -> None:
    schema = schema_of(annotation)
    assert [value for value in CANDIDATES if fits(value, schema)] == accepted_in_yaml(annotation)


# What may be traced.

LANES = (0.5, 0.25)
# So that every marked number is used.
SETTINGS: dict[str, dict[str, Any]] = {
    "maml": {"estimator": "loaded_dice"},
    "ppo_maml": {"estimator": "dice"},
    "fomaml": {"inner_rule": "adam"},
    "anil": {"adapted": ("mean",)},
    "rl2": {"entropy_decay_updates": 3, "num_minibatches": 2, "normalize_rewards": True},
    "varibad": {"meta_batch_size": 2, "inference_decay_updates": 3, "bonus_decay_updates": 3},
}

FAMILIES_OF = {"ad": bandit_bernoulli(), "varibad": with_critic_oracle(FAMILY)}
"""Of a source that takes discrete actions, and of a task that is to be told."""


def train(name: str, values: dict[str, Any]) -> Any:
    """One update; everything from the policy on is made of ``values``."""
    factory, stds = ALGORITHMS[name], {key: values[key] for key in ("init_std", "min_std")}
    family = FAMILIES_OF.get(name, FAMILY)
    shape, action = family.observation_shape, family.action
    if MADE_FOR.get(name) in ("recurrent", "belief"):
        privileged = {"privileged_size": family.privileged_size}
        policy = POLICIES[MADE_FOR[name]](shape, action, hidden_size=2, **privileged, **stds)
    elif name == "dpt":
        policy = in_context_policy(shape, action, size=2, num_layers=1, num_heads=1, **stds)
    else:
        context = 1 if name == "cavia" else 0
        critic = name != "trpo_maml"
        policy = mlp_policy(shape, action, hidden_sizes=(2,), shared_torso=critic, context_size=context, **stds)
    settings = dict(SETTINGS.get(name, {}))
    if "max_outer_kl" in values:
        settings["num_epochs"] = 2
    if "outer_weights" in values:
        others = () if name == "pretraining" else (1.0,)  # it trains on a single stage
        settings |= {"outer_stages": "all", "outer_weights": (*others, values["outer_weights"])}
    optimizer = [optax.sgd(0.1)] if takes_optimizer(factory) else []
    settings = {key: value for key, value in values.items() if key not in stds} | settings
    algorithm = factory(family, policy, *optimizer, episodes_per_task=2, **settings)
    keys = jax.random.split(jax.random.key(1))
    state, info = algorithm.update(algorithm.init(jax.random.key(0)), jax.vmap(family.sample)(keys), keys)
    if name != "pretraining":  # the others adapt in their updates, too
        return state.params, info
    return state.params, algorithm.adapt(state.params, FAMILY.sample(keys[0]), keys[1])


def lanes(name: str) -> dict[str, jax.Array]:
    traced = traceable_keys(ALGORITHMS[name]) | traceable_keys(POLICIES[MADE_FOR.get(name, "mlp")])
    return {key: jnp.array(LANES) * (0.1 if key == "min_std" else 1.0) for key in sorted(traced)}


def test_every_number_of_every_method_is_marked() -> None:
    for factory in [*ALGORITHMS.values(), *POLICIES.values()]:
        annotations = {key: str(annotation) for key, (_, annotation, _) in keyword_arguments(factory).items()}
        numbers = {key for key, annotation in annotations.items() if re.search(r"\bfloat\b", annotation)}
        assert numbers == traceable_keys(factory)
    assert {"inner_lr", "max_kl"} <= traceable_keys(trpo_maml)
    assert "cg_steps" not in traceable_keys(trpo_maml)
    assert is_traceable(keyword_arguments(promp)["kl_target"][1])


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_sweep_over_all_marked_numbers_is_one_program(name: str) -> None:
    jax.eval_shape(jax.vmap(partial(train, name)), lanes(name))


@pytest.mark.parametrize("name", ["reptile", "rl2"])
@pytest.mark.slow
def test_a_lane_of_a_sweep_is_a_run_of_its_own(name: str) -> None:
    values = lanes(name)
    swept = jax.jit(jax.vmap(partial(train, name)))(values)
    second = jax.tree.map(lambda x: x[1], swept)
    numbers = {key: float(value[1]) for key, value in values.items()}
    alone = jax.jit(lambda: train(name, numbers))()
    jax.tree.map(partial(np.testing.assert_allclose, rtol=2e-3, atol=1e-4), second, alone)
    assert not np.allclose(*swept[1]["grad_norm"], rtol=0.05)


def test_what_is_traced_is_no_text_and_no_switch() -> None:
    def build(value: jax.Array) -> jax.Array:
        with pytest.raises(Refusal, match=r"first_order = .*: must be true or false"):
            maml(FAMILY, POLICY, ADAM, first_order=value)
        with pytest.raises(Refusal, match=r"estimator = .*: must be one of"):
            maml(FAMILY, POLICY, ADAM, estimator=value)
        return value

    jax.eval_shape(build, jnp.zeros(()))


def test_refusals_of_what_is_not_traced_do_not_depend_on_what_is() -> None:
    def build(value: jax.Array) -> jax.Array:
        with pytest.raises(Refusal, match="clip_eps = -1"):
            rl2(FAMILY, MEMORY, ADAM, discount=value, clip_eps=-1)
        with pytest.raises(Refusal, match=r"inner_lr = .* -1\.0\): must be a list of numbers of at least 0$"):
            maml(FAMILY, POLICY, ADAM, inner_lr=(value, -1.0))
        return value

    jax.eval_shape(build, jnp.zeros(()))


def test_a_range_holds_for_every_number_of_an_array() -> None:
    annotation = Annotated[float, Gt(0)]
    assert fits(np.ones(3), schema_of(annotation))
    assert not fits(np.array([1.0, 0.0]), schema_of(annotation))
    assert not fits(jnp.array([1.0, jnp.nan]), schema_of(annotation))
    assert not fits(np.array([True]), schema_of(annotation))
    assert not fits(jax.random.key(0), schema_of(annotation))


def test_what_single_precision_makes_of_a_number_decides_whatever_its_type() -> None:
    """In an array, which may be data, numbers may become zero; half precision is not compared in itself."""
    schema = schema_of(float)
    kept = (np.array([1e-300]), np.float16(0.1), jnp.bfloat16(0.1), np.int8(-128))
    refused = (np.array([1e39]), np.array(1e-300), np.float64(1e39), np.float16("inf"), np.array(["inf"], "float16"))
    assert [fits(value, schema) for value in kept + refused] == [True] * len(kept) + [False] * len(refused)
    assert "single precision" in allowed(schema_of(tuple[float, ...]), np.array([0.1, 1e39]))
    assert "single precision" not in allowed(schema_of(int), 1e39)


def test_one_unknown_name_in_an_annotation_leaves_the_others_checked() -> None:
    @checked
    def make(*, env: "Nowhere", horizon: "PositiveInt" = 3) -> object:  # type: ignore[name-defined]  # noqa: F821
        return env, horizon

    assert make(env=None) == (None, 3)
    with pytest.raises(Refusal, match="horizon = -3: must be greater than 0"):
        make(env=None, horizon=-3)


def test_an_array_of_whole_numbers_is_a_list_of_sizes() -> None:
    policy = mlp_policy((2,), FAMILY.action, hidden_sizes=np.array([8, 8]))  # type: ignore[arg-type]
    assert policy.init(jax.random.key(0))["mean"]["Dense_1"]["kernel"].shape == (8, 8)
