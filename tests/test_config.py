"""Configs: what is accepted, and that everything else is refused with a message a user can act on."""

import contextlib
import inspect
import math
import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jsonschema
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config import (
    DEFAULT_CATALOGUE,
    Catalogue,
    Config,
    ConfigError,
    OptimizerConfig,
    check_devices,
    config_from_dict,
    config_schema,
    dump,
    hyperparameters,
    load_config,
    make_optimizer,
)
from metarl_jax.config.schema import ANY_FAMILY, argument_descriptions, keyword_arguments, section_model
from metarl_jax.config.source import find_config, known_configs
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks import POLICIES
from metarl_jax.runs.build import build
from metarl_jax.tasks import FAMILIES
from metarl_jax.types import Fraction, NonNegativeFloat, PositiveFloat, PositiveInt

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def proximal(
    family: Any,
    policy: Any,
    optimizer: Any,
    *,
    inner_lr: NonNegativeFloat | tuple[NonNegativeFloat, ...] = 0.1,
    clip_eps: PositiveFloat = 0.3,
    discount: Fraction = 0.99,
    baseline: Literal["linear_feature", "zero"] = "linear_feature",
    kl_target: PositiveFloat | None = None,
    first_order: bool = False,
    episodes_per_task: PositiveInt = 20,
) -> None:
    """Proximal.

    Args:
      family: tasks.
      inner_lr: inner step size,
        or one per step.

    Returns:
      Nothing.
    """


def trust(family: Any, policy: Any, *, inner_lr: PositiveFloat = 0.1, max_kl: PositiveFloat = 0.01) -> None:
    """Trust region."""


def plane(*, horizon: PositiveInt = 100, action_scale: PositiveFloat) -> None:
    """Plane."""


def line() -> None:
    """Line."""


def mlp(shape: Any, action: Any, *, hidden_sizes: tuple[PositiveInt, ...] = (64, 64)) -> None:
    """Perceptron."""


FAKE = Catalogue({"plane": plane, "line": line}, {"mlp": mlp}, {"proximal": proximal, "trust": trust})
MINIMAL: dict[str, Any] = {"tasks": {"name": "line"}, "algorithm": {"name": "proximal"}}


def with_values(**sections: Any) -> dict[str, Any]:
    merged = {
        key: {**MINIMAL.get(key, {}), **value} if isinstance(value, dict) else value for key, value in sections.items()
    }
    return {**MINIMAL, **merged}


def message(load: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        load()
    assert caught.value.__cause__ is None
    return str(caught.value)


def refusal(tree: Any) -> str:
    return message(lambda: config_from_dict(tree, catalogue=FAKE))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write_file(content: str | bytes) -> Path:
        path = tmp_path / "experiment.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


FILE = """
tasks: {name: line}
algorithm:
  name: proximal
  clip_eps: 0.2
seed: 7
"""


# What is accepted.


def test_defaults_come_from_the_signatures() -> None:
    config = config_from_dict(MINIMAL, catalogue=FAKE)
    assert hyperparameters(config.algorithm) == {
        "inner_lr": 0.1,
        "clip_eps": 0.3,
        "discount": 0.99,
        "baseline": "linear_feature",
        "kl_target": None,
        "first_order": False,
    }
    assert hyperparameters(config.policy) == {"hidden_sizes": (64, 64)}
    assert (config.policy.name, config.seed, config.training.num_iterations) == ("mlp", 0, 100)
    assert config.optimizer == OptimizerConfig()


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.05, 0.05), ("1e-3", 1e-3), ("2.5E+1", 25.0), ([0.1, 1], (0.1, 1.0)), (["1e-3"], (1e-3,)), ([], ())],
)
def test_numbers_and_lists(value: object, expected: object) -> None:
    config = config_from_dict(with_values(algorithm={"inner_lr": value}), catalogue=FAKE)
    assert hyperparameters(config.algorithm)["inner_lr"] == expected


def test_empty_sections_mean_defaults() -> None:
    config = config_from_dict(with_values(policy=None, training=None, optimizer=None), catalogue=FAKE)
    assert config == config_from_dict(MINIMAL, catalogue=FAKE)


@pytest.mark.parametrize("empty", [None, {}])
def test_an_algorithm_without_optimizer(empty: object) -> None:
    tree = {"tasks": {"name": "line"}, "algorithm": {"name": "trust"}, "optimizer": empty}
    config = config_from_dict(tree, catalogue=FAKE)
    assert config.optimizer is None
    assert "optimizer" not in yaml.safe_load(dump(config))


@pytest.mark.parametrize("name", ["proximal", "trust"])
def test_dump_is_complete_and_round_trips(name: str, write: Callable[[str], Path]) -> None:
    tree = {"tasks": {"name": "plane", "action_scale": 1e-5}, "algorithm": {"name": name}}
    config = config_from_dict(tree, catalogue=FAKE)
    text = dump(config)
    assert load_config(write(text), catalogue=FAKE) == config
    assert config_from_dict(yaml.safe_load(text), catalogue=FAKE) == config
    assert list(yaml.safe_load(text)["tasks"]) == ["name", "horizon", "action_scale", *ANY_FAMILY]


def test_yaml_core_schema(write: Callable[[str], Path]) -> None:
    """1e-3 is a number, and a date or a yes is text: what PyYAML's own loader gets wrong."""
    path = write(FILE + "optimizer: {learning_rate: 1e-3}\nlogging: {run_root: 2026-01-01}\n")
    config = load_config(path, catalogue=FAKE)
    assert config.optimizer is not None
    assert (config.optimizer.learning_rate, config.logging.run_root) == (1e-3, "2026-01-01")
    assert "must be true or false (got 'yes')" in message(
        lambda: load_config(path, ["logging.tensorboard=yes"], catalogue=FAKE)
    )


def test_byte_order_mark_is_ignored(write: Callable[[bytes], Path]) -> None:
    assert load_config(write(b"\xef\xbb\xbf" + FILE.encode()), catalogue=FAKE).seed == 7


def test_config_is_frozen() -> None:
    config = config_from_dict(MINIMAL, catalogue=FAKE)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1  # type: ignore[misc]


def test_overrides(write: Callable[[str], Path]) -> None:
    overrides = ["seed=1", "seed=2", "algorithm.inner_lr=[0.1, 1e-2]", "training.num_iterations = 5", "policy={}"]
    config = load_config(write(FILE), overrides, catalogue=FAKE)
    assert (config.seed, config.training.num_iterations) == (2, 5)
    assert hyperparameters(config.algorithm) | {"inner_lr": (0.1, 0.01), "clip_eps": 0.2} == hyperparameters(
        config.algorithm
    )


# What is refused.


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (with_values(algorithm={"inner_lr": -0.1}), "algorithm.inner_lr: must be at least 0 (got -0.1)"),
        (with_values(algorithm={"clip_eps": 0}), "algorithm.clip_eps: must be greater than 0 (got 0)"),
        (with_values(algorithm={"discount": 1.5}), "algorithm.discount: must be at least 0 and at most 1 (got 1.5)"),
        (
            with_values(algorithm={"clip_eps": math.nan}),
            "algorithm.clip_eps: must be a finite number greater than 0 (got nan)",
        ),
        (with_values(optimizer={"learning_rate": math.inf}), "must be a finite number greater than 0 (got inf)"),
        (with_values(algorithm={"inner_lr": True}), "(got true)"),
        (with_values(seed=True), "seed: must be a whole number of at least 0 and at most 4294967295 (got true)"),
        (with_values(seed=2**40), "seed: must be at most 4294967295 in size (got 1099511627776)"),
        (with_values(training={"num_iterations": 1.0}), "must be a whole number greater than 0 (got 1.0)"),
        (with_values(training={"num_iterations": "10"}), "must be a whole number greater than 0 (got '10')"),
        (with_values(algorithm={"first_order": 1}), "algorithm.first_order: must be true or false (got 1)"),
        (
            with_values(algorithm={"inner_lr": [0.1, "x"]}),
            "algorithm.inner_lr: must be a list of numbers of at least 0 (got [0.1, 'x'])",
        ),
        (
            with_values(algorithm={"inner_lr": "fast"}),
            "must be a number of at least 0 or a list of numbers of at least 0 (got 'fast')",
        ),
        (with_values(algorithm={"kl_target": 0}), "must be a number greater than 0 or null (got 0)"),
        (
            with_values(policy={"hidden_sizes": [64, 0]}),
            "policy.hidden_sizes: must be a list of whole numbers greater than 0 (got [64, 0])",
        ),
        (
            with_values(algorithm={"baseline": "linaer"}),
            "algorithm.baseline: must be one of linear_feature, zero (got 'linaer')",
        ),
        (
            with_values(tasks={"name": "plane", "action_scale": 1, "horizon": 0}),
            "tasks.horizon: must be greater than 0",
        ),
        (with_values(tasks={"name": "plane"}), "tasks.action_scale: is required"),
        (with_values(logging={"run_root": ""}), "logging.run_root: must be text of length at least 1 (got '')"),
        (with_values(training=[1]), "training: must be a section of indented 'key: value' lines (got [1])"),
        ({3: 4} | MINIMAL, "3: keys must be text (got 3)"),
    ],
)
def test_wrong_values(tree: Any, expected: str) -> None:
    text = refusal(tree)
    assert expected in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        (
            with_values(algorithm={"inner_rl": 1}),
            "algorithm.inner_rl: unknown key of algorithm 'proximal'; did you mean 'inner_lr'? "
            "Valid keys: inner_lr, clip_eps, discount, baseline, kl_target, first_order",
        ),
        (
            with_values(algorithm={"max_kl": 1}),
            "algorithm.max_kl: unknown key of algorithm 'proximal' (it is a key of trust); valid keys: ",
        ),
        (with_values(algorithm={"episodes_per_task": 3}), "; did you mean 'training.episodes_per_task'? Valid keys: "),
        (
            with_values(learning_rate=1),
            "learning_rate: unknown key; did you mean 'optimizer.learning_rate'? Valid keys: ",
        ),
        (with_values(trainig={}), "trainig: unknown key; did you mean 'training'? Valid keys: seed, tasks, policy,"),
        (with_values(tasks={"zzz": 1}), "tasks.zzz: unknown key of task family 'line'; valid keys: oracle"),
    ],
)
def test_unknown_keys(tree: Any, expected: str) -> None:
    assert expected in refusal(tree)


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"tasks": {"name": "line"}}, "algorithm.name: is required; choose one of: proximal, trust"),
        (
            with_values(algorithm={"name": "Proximla"}),
            "algorithm.name: no such algorithm (got 'Proximla'); did you mean 'proximal'? "
            "Choose one of: proximal, trust",
        ),
        (
            with_values(tasks={"name": "cube"}),
            "tasks.name: no such task family (got 'cube'); choose one of: line, plane",
        ),
        (with_values(tasks={"name": None}), "tasks.name: must be one of: line, plane (got null)"),
        (with_values(policy={"name": "cnn"}), "policy.name: no such policy (got 'cnn'); choose one of: mlp"),
        ([], "must be a mapping of sections (got [])"),
    ],
)
def test_wrong_names(tree: Any, expected: str) -> None:
    assert refusal(tree) == expected


def test_useless_optimizer() -> None:
    tree = {"tasks": {"name": "line"}, "algorithm": {"name": "trust"}, "optimizer": {"learning_rate": 0.1}}
    assert "optimizer: trust takes no optimizer: its outer step is its own" in refusal(tree)


@pytest.mark.parametrize("useless", [0, False, "", [], {"x": 1}])
def test_only_an_empty_optimizer_is_no_optimizer(useless: object) -> None:
    tree = {"tasks": {"name": "line"}, "algorithm": {"name": "trust"}, "optimizer": useless}
    assert "remove this section" in refusal(tree)


def test_all_problems_at_once(write: Callable[[str], Path]) -> None:
    path = write("seed: -1\ntasks: {name: cube}\nalgorithm: {name: proximal, clip_eps: -1, inner_rl: 2}\ntrainig: {}\n")
    lines = message(lambda: load_config(path, ["optimizer.learning_rate=fast"], catalogue=FAKE)).splitlines()
    assert len(lines) == 6
    assert sum(line.startswith(f"{path}: ") for line in lines) == 5
    assert "command line: optimizer.learning_rate: must be a number greater than 0 (got 'fast')" in lines


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "command line: 'seed': has no '='; write key.path=value"),
        ("=3", "command line: '=3': has an empty key"),
        ("algorithm..inner_lr=3", "has an empty key"),
        ("seed=", "command line: 'seed=': has no value; write key.path=value, e.g. algorithm.inner_lr=0.05, or null"),
        ("seed.x=1", "command line: seed.x: 'seed' is a value (7), not a section"),
        ("seed=[1", "command line: seed: broken YAML at line 1, column 3"),
        ("seed=nan", "command line: seed: must be a whole number of at least 0 and at most 4294967295 (got 'nan')"),
        ("algorithm.inner_rl=1", "command line: algorithm.inner_rl: unknown key of algorithm 'proximal'; did you mean"),
        ("algoritm.inner_lr=1", "command line: algoritm: unknown key; did you mean 'algorithm'?"),
        ("algorithm.inner_lr.x=1", "command line: algorithm.inner_lr: must be a number"),
        ("algorithm=3", "command line: algorithm: must be a section"),
        ("algorithm.name=trust", "algorithm.clip_eps: unknown key of algorithm 'trust' (it is a key of proximal)"),
    ],
)
def test_wrong_overrides(override: str, expected: str, write: Callable[[str], Path]) -> None:
    text = message(lambda: load_config(write(FILE), [override], catalogue=FAKE))
    assert expected in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "is empty; give at least tasks.name and algorithm.name"),
        ("# only a comment\n", "is empty"),
        ("- a\n- b\n", "must be a mapping of sections, e.g. 'seed: 0' (got ['a', 'b'])"),
        ("seed: 1\nseed: [\n", "broken YAML at line 3, column 1"),
        ("seed: 1\n\tx: 2\n", "broken YAML at line 2, column 1"),
        ("seed: 1\nname: a\x07b\n", "broken YAML at line 2, column 8: a character that YAML does not allow"),
        ("seed: 1\n---\nseed: 2\n", "broken YAML at line 2, column 1"),
        ("seed: 1\ntasks: {}\nseed: 2\n", "seed: given twice, in lines 1 and 3; keep one"),
        ("algorithm:\n  name: a\n  name: b\n", "algorithm.name: given twice, in lines 2 and 3"),
        ("a: &x [1]\nb: *x\n", "broken YAML at line 2, column 4: aliases (*name) and tags (!name) are not supported"),
        ("a: &x [*x]\n", "aliases"),
        ("a: !!python/object:os.system x\n", "tags"),
        ("? [a]\n: 1\n", "broken YAML at line 1"),
        ("[" * 5000, "is nested too deeply"),
        (b"seed: \xff\n", "is not UTF-8 text (byte 0xff at position 6)"),
        (b"\xff\xfe\x00", "is not UTF-8 text"),
    ],
)
def test_broken_files(content: str | bytes, expected: str, write: Callable[[str | bytes], Path]) -> None:
    path = write(content)
    text = message(lambda: load_config(path))
    assert text.startswith(f"{path}: ")
    assert expected in text


def test_paths_that_are_no_file(tmp_path: Path, write: Callable[[str], Path]) -> None:
    path = write(FILE)
    assert message(lambda: load_config(tmp_path)) == f"{tmp_path}: is a directory; give a YAML file"
    missing = message(lambda: load_config(tmp_path / "experimnt.yml"))
    assert f"no such file or config; did you mean '{path}'? Give a path, or a name that 'metarl list' shows" in missing
    assert "no such file or config; give a path" in message(lambda: load_config(tmp_path / "nowhere" / "zzzz.yaml"))
    assert "no such file or config" in message(lambda: load_config("a\0b"))
    assert "no such file or config" in message(lambda: load_config(path / "below.yaml"))
    assert "cannot be read: File name too long" in message(lambda: load_config("x" * 300))
    assert "is a directory" in message(lambda: load_config(""))


def test_a_name_means_a_file_here_then_in_configs_then_one_that_comes_with_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config("quickstart") == load_config("quickstart.yaml") == load_config(CONFIGS / "quickstart.yaml")
    assert "did you mean 'quickstart'?" in message(lambda: load_config("quikstart"))
    assert "did you mean 'quickstart'?" in message(lambda: load_config("configs/quickstart.yaml"))
    for number, folder in enumerate((tmp_path / "configs", tmp_path), start=1):
        folder.mkdir(exist_ok=True)
        (folder / "quickstart.yaml").write_text(f"seed: {number}\n{FILE.replace('seed: 7', '')}")
        (folder / "v1.2.yaml").write_text(FILE)
        assert load_config("quickstart", catalogue=FAKE).seed == number
        assert find_config("v1.2").name == "v1.2.yaml"
        assert known_configs()["v1.2"] == Path("configs/v1.2.yaml")
    (tmp_path / "maml_navigation").mkdir()  # a folder of that name, as of a run, is not in the way
    assert find_config("maml_navigation") == CONFIGS / "maml_navigation.yaml"


def test_nested_in_itself() -> None:
    tree: dict[str, Any] = dict(MINIMAL)
    tree["policy"] = tree
    assert "nested" in refusal(tree)


def test_a_number_too_large_to_print() -> None:
    assert refusal(with_values(seed=10**5000)) == "seed: must be at most 4294967295 in size (got a very large number)"


def test_devices() -> None:
    config = config_from_dict(MINIMAL, catalogue=FAKE)
    check_devices(config, 1)
    check_devices(config, 4)
    text = message(lambda: check_devices(config, 3))
    assert text == ("training.meta_batch_size: must be a multiple of the number of devices, 3 (got 20); use 18 or 21")
    assert message(lambda: check_devices(config, 64)).endswith("use 64")


def test_config_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(ConfigError("a: x", "b: y")))
    assert str(error) == "a: x\nb: y"


# Schemas.


def test_descriptions_come_from_docstrings() -> None:
    assert argument_descriptions(proximal) == {"family": "tasks.", "inner_lr": "inner step size, or one per step."}
    field = section_model("algorithm", "proximal", proximal).model_fields["inner_lr"]
    assert field.description == "inner step size, or one per step."


@pytest.mark.parametrize("factory", [*ALGORITHMS.values(), *POLICIES.values(), *FAMILIES.values(), make_inner_loop])
def test_descriptions_are_whole_paragraphs(factory: Callable) -> None:
    """Whatever a line begins with: ``observation: what CAVIA adapts.`` goes on with the line above."""
    descriptions = argument_descriptions(factory)
    assert set(descriptions) <= set(inspect.signature(factory).parameters)
    (block,) = re.findall(r"\nArgs:\n(.*?)\n\n(?=\S)", inspect.getdoc(factory), flags=re.DOTALL)
    assert " ".join(f"{name}: {text}" for name, text in descriptions.items()) == " ".join(block.split()).replace(
        "**", ""
    )


def test_an_argument_without_annotation_is_a_mistake_of_ours() -> None:
    def bad(*, x=1):  # type: ignore[no-untyped-def]
        return x

    with pytest.raises(TypeError, match="argument 'x' has no annotation"):
        section_model("tasks", "bad", bad)


@pytest.mark.parametrize(
    "factory", [*FAMILIES.values(), *POLICIES.values(), *ALGORITHMS.values()], ids=lambda factory: factory.__name__
)
def test_every_key_is_documented(factory: Any) -> None:
    for key, (_, _, description) in keyword_arguments(factory).items():
        assert description != key.replace("_", " "), f"{key} has no entry in the docstring of {factory.__name__}"


def test_every_field_has_a_description() -> None:
    definitions = config_schema()["$defs"]
    keys = {f"{name}.{key}": schema for name, d in definitions.items() for key, schema in d["properties"].items()}
    assert [key for key, schema in keys.items() if not schema.get("description")] == []


# The real ones.


@pytest.fixture(scope="module")
def of_schema() -> jsonschema.protocols.Validator:
    schema = config_schema()
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_in_the_repository_is_valid(path: Path, of_schema: jsonschema.protocols.Validator) -> None:
    config = load_config(path)
    check_devices(config, 2)
    written = yaml.safe_load(dump(config))
    of_schema.validate(written)
    assert config_from_dict(written) == config


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_combination_has_valid_defaults(family: str, algorithm: str) -> None:
    config = config_from_dict({"tasks": {"name": family}, "algorithm": {"name": algorithm}})
    assert isinstance(config, Config)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop"])
def test_optimizer_clips_by_global_norm(name: Any) -> None:
    params, gradient = {"w": jnp.zeros(2)}, {"w": jnp.array([3e4, 4e4])}
    clipped = make_optimizer(OptimizerConfig(name=name, learning_rate=0.1, max_grad_norm=1.0))
    free = make_optimizer(OptimizerConfig(name=name, learning_rate=0.1))
    step_clipped, _ = clipped.update(gradient, clipped.init(params), params)
    step_free, _ = free.update({"w": jnp.array([0.6, 0.8])}, free.init(params), params)
    assert jax.tree.all(jax.tree.map(lambda a, b: jnp.allclose(a, b, atol=1e-5), step_clipped, step_free))


@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 1e9}, {"name": "adam"}])
def test_optimizer_moves_the_inner_rule_as_much_faster_as_told(settings: dict[str, Any]) -> None:
    params = {"mean": {"w": jnp.zeros(2)}, "inner_rule": {"mean/w": jnp.ones(3)}}
    gradient = jax.tree.map(lambda x: x + 2.0, params)
    steps = []
    for scale in (1.0, 10.0):
        optimizer = make_optimizer(OptimizerConfig(**{"name": "sgd", **settings}, inner_rule_scale=scale))
        steps.append(optimizer.update(gradient, optimizer.init(params), params)[0])
    assert jax.tree.all(jax.tree.map(jnp.array_equal, steps[0]["mean"], steps[1]["mean"]))
    np.testing.assert_allclose(10.0 * steps[0]["inner_rule"]["mean/w"], steps[1]["inner_rule"]["mean/w"], rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({}, [1.0, 1.0, 1.0]),
        ({"warmup_steps": 2}, [0.0, 0.5, 1.0, 1.0]),
        ({"decay_steps": 2}, [1.0, 0.5, 0.0, 0.0]),
        ({"warmup_steps": 1, "decay_steps": 2, "final_fraction": 0.5}, [0.0, 1.0, 0.75, 0.5, 0.5]),
    ],
)
def test_step_size_schedule_as_the_steps_show_it(settings: dict[str, Any], sizes: list[float]) -> None:
    optimizer = make_optimizer(OptimizerConfig(name="sgd", learning_rate=1.0, **settings))
    state = optimizer.init(jnp.zeros(()))
    for size in sizes:
        step, state = optimizer.update(jnp.ones(()), state)
        assert float(step) == pytest.approx(-size)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"optimizer": {"inner_rule_scale": 10.0}}, r"optimizer\.inner_rule_scale = 10: .* use meta_sgd"),
        ({"evaluation": {"distribution": "beyond"}}, r"evaluation\.distribution = 'beyond': navigation_corner has no"),
    ],
)
def test_what_would_have_no_effect_is_refused_when_building(sections: dict[str, Any], message: str) -> None:
    tree = {"tasks": {"name": "navigation_corner"}, "algorithm": {"name": "maml"}, **sections}
    with pytest.raises(ConfigError, match=message):
        build(config_from_dict(tree))
    if "optimizer" in sections:
        build(config_from_dict({**tree, "algorithm": {"name": "meta_sgd"}}))


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"state_size": 3}, r"policy\.state_size = 3: must be left out: it is of memory s5, not of gru"),
        ({"memory": "lstm", "num_layers": 2}, r"policy\.num_layers = 2: .* of memory s5, .*min_gru.*, not of lstm"),
        ({"memory": "s5", "slot_size": 2}, r"policy\.slot_size = 2: of no use without memory_slots"),
        (
            {"memory": "s5", "num_layers": 0},
            r"policy\.num_layers: must be a whole number greater than 0 or null \(got 0\)",
        ),
        ({"memory": "gpu"}, r"policy\.memory: must be one of gru, .*s5.* \(got 'gpu'\)"),
    ],
)
def test_options_are_refused_that_the_chosen_memory_does_not_take(policy: dict[str, Any], message: str) -> None:
    tree = {"tasks": {"name": "bandit_bernoulli"}, "algorithm": {"name": "rl2"}}
    with pytest.raises(ConfigError, match=message):
        build(config_from_dict({**tree, "policy": {"name": "recurrent", **policy}}))


def test_options_that_are_left_out_are_the_memorys_own() -> None:
    tree = {"tasks": {"name": "bandit_bernoulli"}, "algorithm": {"name": "rl2"}}
    policy = {"name": "recurrent", "hidden_size": 4, "memory": "s5", "num_layers": 3, "aggregate": "splagger"}
    config = config_from_dict({**tree, "policy": policy})
    assert (config.policy.num_layers, config.policy.state_size) == (3, None)
    carry = build(config).policy.initial_carry(2).cell
    assert [leaf.shape for leaf in jax.tree.leaves(carry)] == [(2, 128)] * 3 + [(2, 2), (2,)]
    assert config_from_dict(yaml.safe_load(dump(config))) == config


# Whatever is written, the answer is a config or a message.

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["proximal", "trust", "line", "plane", "mlp", "1e-3", ".nan", "~", "2026-13-99", 10**40])
)
KEYS = (
    st.sampled_from(["seed", "name", "inner_lr", "clip_eps", "max_kl", "horizon", "hidden_sizes", "learning_rate", "x"])
    | st.sampled_from([*Config.model_fields])
    | st.text(max_size=5)
    | st.integers()
    | st.none()
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=3), max_leaves=8)
SECTION = st.dictionaries(KEYS, VALUES, max_size=4)
PATCH = st.dictionaries(st.sampled_from([*Config.model_fields]) | KEYS, SECTION | VALUES, max_size=4)


@settings(max_examples=300, deadline=None)
@given(PATCH)
def test_any_mutation_loads_or_raises_config_error(patch: dict[Any, Any]) -> None:
    tree = {
        key: {**MINIMAL.get(key, {}), **value} if isinstance(value, dict) else value for key, value in patch.items()
    }
    try:
        config = config_from_dict({**MINIMAL, **tree}, catalogue=FAKE)
    except ConfigError:
        return
    assert config_from_dict(yaml.safe_load(dump(config)), catalogue=FAKE) == config


@settings(max_examples=200, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("seedtasks:{}[],'\"#&*!|>%@`- \n\t1e.-~<?\x00é")) | st.binary(max_size=30),
    st.text(max_size=12),
)
def test_any_file_and_override_loads_or_raises_config_error(
    tmp_path_factory: pytest.TempPathFactory, content: str | bytes, override: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    for overrides in ([], [override], [f"seed={override}"], [f"{override}=1"]):
        with contextlib.suppress(ConfigError):
            load_config(path, overrides, catalogue=FAKE)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_any_override_of_a_good_file_loads_or_raises_config_error(
    tmp_path_factory: pytest.TempPathFactory, override: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "good.yaml"
    path.write_text(FILE)
    for overrides in ([override], [f"seed={override}"], [f"{override}=1"], [f"algorithm.{override}=1"]):
        with contextlib.suppress(ConfigError):
            load_config(path, overrides, catalogue=FAKE)


def test_a_family_tells_its_policy_what_is_for_a_critic_alone() -> None:
    """It is no key of the config; a policy that has no place for it is refused."""
    family = FAMILIES["navigation_finn"]()._replace(privileged_size=1)
    config_of = partial(config_from_dict, catalogue=DEFAULT_CATALOGUE._replace(tasks={"torn": lambda: family}))
    tree = {"tasks": {"name": "torn"}, "algorithm": {"name": "maml"}}
    params = jax.eval_shape(build(config_of(tree)).policy.init, jax.random.key(0))
    assert params["mean"]["Dense_0"]["kernel"].shape == (1, 64)
    with pytest.raises(ConfigError, match=r"policy\.name = 'conv': it cannot tell .*: use mlp, recurrent or belief"):
        build(config_of({**tree, "policy": {"name": "conv"}}))
    with pytest.raises(ConfigError, match="privileged_size"):
        config_of({**tree, "policy": {"privileged_size": 1}})
