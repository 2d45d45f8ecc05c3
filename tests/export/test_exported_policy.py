"""What was exported acts as the run does: in numpy alone and through jax.export, for every kind of policy."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metarl_jax.algorithms import maml
from metarl_jax.checks import Refusal
from metarl_jax.collect.actor import Actor
from metarl_jax.export.folder import Adapted, adapt_to, export_run
from metarl_jax.export.policy import Policy, read_safetensors
from metarl_jax.networks.memoryless import memoryless_policy
from metarl_jax.ops import trees
from metarl_jax.runs.run import Run
from metarl_jax.types import Agent, Episodes, Percept
from tests.helpers import environment, untrained

POINT = {"name": "navigation_finn", "horizon": 5}
MDP = {"name": "tabular_mdp", "num_states": 3, "num_actions": 4, "horizon": 3}
MINATAR = {"name": "minatar_games", "horizon": 3}
KINDS = {
    "gaussian": (POINT, {"name": "promp"}, {"hidden_sizes": [4]}),
    "normalised": (POINT, {"name": "promp"}, {"hidden_sizes": [4], "normalize_observations": True}),
    "squashed": (
        POINT,
        {"name": "ppo_maml"},
        {"hidden_sizes": [4], "squash": True, "state_dependent_std": True, "shared_torso": True, "activation": "elu"},
    ),
    "context": (POINT, {"name": "cavia"}, {"hidden_sizes": [4], "context_size": 3, "activation": "swish"}),
    "choices": (MDP, {"name": "maml"}, {"hidden_sizes": [4], "activation": "relu"}),
    "images": (MINATAR, {"name": "maml"}, {"name": "conv", "channels": [2], "hidden_sizes": [4]}),
    "gru": (
        POINT,
        {"name": "rl2"},
        {"name": "recurrent", "hidden_size": 3, "embedding_sizes": [4], "head_sizes": [4], "squash": True},
    ),
    "lstm": (MDP, {"name": "rl2"}, {"name": "recurrent", "hidden_size": 3, "memory": "lstm", "heads": "generated"}),
    "hypernetwork": (
        POINT,
        {"name": "rl2"},
        {"name": "recurrent", "hidden_size": 3, "heads": "hypernetwork", "head_sizes": [4], "latent_size": 2},
    ),
    "transformer": (
        MDP,
        {"name": "rl2"},
        {"name": "recurrent", "memory": "transformer", "hidden_size": 4, "window": 3, "num_layers": 1, "num_heads": 2},
    ),
    "in_context": (
        MDP,
        {"name": "dpt"},
        {"name": "in_context", "context_length": 2, "size": 4, "num_layers": 1, "num_heads": 2},
    ),
    "belief": (MDP, {"name": "varibad"}, {"name": "belief", "hidden_size": 3, "latent_size": 2, "hidden_sizes": [4]}),
    "associative": (
        MDP,
        {"name": "trpo_rl2"},
        {"name": "recurrent", "hidden_size": 3, "memory_slots": 4, "slot_size": 2},
    ),
    "s5": (
        MDP,
        {"name": "rl2"},
        {"name": "recurrent", "hidden_size": 3, "memory": "s5", "state_size": 2, "aggregate": "splagger"},
    ),
    "min_gru": (POINT, {"name": "rl2"}, {"name": "recurrent", "hidden_size": 3, "memory": "min_gru"}),
    "slots": (
        MDP,
        {"name": "rl2"},
        {"name": "recurrent", "hidden_size": 3, "memory": "associative", "memory_slots": 4, "slot_size": 2},
    ),
}


def shaken(run: Run) -> Agent:
    """A run's agent with all its numbers moved, so that none is a zero that nobody would miss."""

    def shake(path, x):
        if jnp.issubdtype(x.dtype, jnp.integer):
            return x + 1
        return x + 0.3 * jax.random.normal(jax.random.key(len(jax.tree_util.keystr(path))), x.shape)

    return jax.tree_util.tree_map_with_path(shake, Agent(run.params, run.policy.initial_carry(1)))


def exported(kind: str, folder: Path) -> tuple[Run, Agent]:
    if kind == "images":
        pytest.importorskip("gymnax")
    run = untrained(*KINDS[kind])
    agent = shaken(run)
    export_run(run, folder, Adapted(agent, {}))
    return run, agent


def act_along(run: Run, agent: Agent, policy: Policy, batch: int) -> None:
    """Two episodes of two steps each, in which the exported policy does what the run's own does."""
    actor, state = Actor(run.family, run.policy, agent, jax.random.key(0)), policy.reset(batch)
    rng = np.random.default_rng(1)
    for t in range(4):
        observation = rng.normal(size=(batch, *run.family.observation_shape)).astype(np.float32)
        reward, done = rng.normal(size=batch), np.full(batch, t == 1)
        wanted = actor.act(observation, deterministic=True)
        action, state = policy.act(state, observation)
        np.testing.assert_allclose(action, wanted, rtol=1e-6, atol=1e-6)
        assert action.dtype == wanted.dtype
        actor.observe(reward, done)
        state = policy.observe(state, reward, done)
        carried = trees.by_path(actor._carry)
        assert state.memory.keys() == carried.keys()
        for name, array in state.memory.items():
            np.testing.assert_allclose(array, carried[name], rtol=1e-6, atol=1e-6, err_msg=name)


SLOW = ("images", "lstm", "context")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=[pytest.mark.slow] * (k in SLOW)) for k in KINDS])
def test_every_kind_of_policy_acts_in_numpy_and_through_jax_export_as_the_run_does(kind: str, tmp_path: Path) -> None:
    run, agent = exported(kind, tmp_path)
    act_along(run, agent, Policy(tmp_path), batch=2)
    act_along(run, agent, Policy(tmp_path, engine="jax"), batch=3)


def test_a_robot_need_not_know_what_was_for_the_critic_alone(tmp_path: Path) -> None:
    run = untrained({**POINT, "critic_oracle": True}, {"name": "rl2"}, {"name": "recurrent", "hidden_size": 3})
    export_run(run, tmp_path, Adapted(shaken(run), {}))
    policy, seen = Policy(tmp_path), np.array([[0.2, -0.1, 0.7, 0.9], [0.5, 0.3, -0.8, 0.1]], np.float32)
    assert (policy.privileged_size, policy.observation_shape) == (2, (4,))
    wanted, after = policy.act(policy.reset(2), seen)
    action, state = policy.act(policy.reset(2), seen[:, :2])
    np.testing.assert_array_equal(action, wanted)
    np.testing.assert_array_equal(state.memory["cell"], after.memory["cell"])
    np.testing.assert_array_equal(policy.act(policy.reset(), seen[0, :2])[0], wanted[0])
    with pytest.raises(ValueError, match=r"shape = \(3,\): give \(1, 4\), or without the last 2 numbers"):
        policy.act(policy.reset(), seen[0, :3])
    with pytest.raises(ValueError, match=r"shape = \(1, 6, 1, 2\): give \(k, T \+ 1, B, 4\)"):
        policy.adapt(*(np.zeros(shape) for shape in ((1, 6, 1, 2), (1, 5, 1, 2), (1, 5, 1), (1, 1), (1, 1))))


@pytest.mark.parametrize("engine", ["numpy", "jax"])
def test_random_actions_have_the_policys_distribution(engine: str, tmp_path: Path) -> None:
    run, agent = exported("squashed", tmp_path)
    policy, num = Policy(tmp_path, engine), 600
    seen = np.tile(np.array([0.2, -0.1], np.float32), (num, 1))
    drawn, _ = policy.act(policy.reset(num), seen, np.random.default_rng(0))
    percept = Percept(jnp.asarray(seen), jnp.zeros((num, 2)), jnp.zeros(num), jnp.ones(num))
    own, *_ = run.policy.act(agent.params, (), percept, jax.random.key(0))
    np.testing.assert_allclose(drawn.mean(0), own.mean(0), atol=0.1)
    np.testing.assert_allclose(drawn.std(0), own.std(0), atol=0.08)
    again, _ = policy.act(policy.reset(num), seen, np.random.default_rng(0))
    np.testing.assert_array_equal(drawn, again)


def test_the_environment_is_given_what_training_gave_it(tmp_path: Path) -> None:
    run, _ = exported("gaussian", tmp_path)
    policy, task = Policy(tmp_path), run.family.sample(jax.random.key(0))
    state, observation = run.family.reset(task, jax.random.key(1))
    for action in (np.array([5.0, -40.0], np.float32), np.array([np.inf, 0.1], np.float32)):
        after = run.family.step(task, state, action, jax.random.key(2))[1]
        np.testing.assert_allclose(observation + policy.control(action), after, rtol=1e-6)


def test_an_adapted_agent_has_left_the_parameters_it_started_from(tmp_path: Path) -> None:
    """By the evaluation's task of a number, and by its numbers, which are the same."""
    run = untrained(POINT, {"name": "maml"})
    by_number = adapt_to(run, 1)
    goal = by_number.about["task"]
    about = export_run(run, tmp_path, by_number)
    assert about["adapted"]["unit"] == "gradient steps"
    assert len(about["adapted"]["mean_return"]) == run.config.evaluation.num_inner_steps + 1
    act_along(run, by_number.agent, Policy(tmp_path), batch=1)
    assert not np.array_equal(Policy(tmp_path).params["log_std"], run.params["log_std"])
    assert adapt_to(run, goal).about["task"] == goal


def test_the_memory_that_adaptation_left_is_carried_over(tmp_path: Path) -> None:
    run = untrained(*KINDS["gru"])
    adapted = adapt_to(run, 0)
    export_run(run, tmp_path, adapted)
    assert np.abs(Policy(tmp_path).reset(2).memory["cell"]).min() > 0
    act_along(run, adapted.agent, Policy(tmp_path), batch=2)


@pytest.mark.parametrize(
    ("kind", "k", "t", "b"),
    [("squashed", 1, 4, 3), ("associative", 2, 3, 2), ("transformer", 2, 3, 2), ("s5", 2, 3, 2)],
)
def test_a_robot_adapts_to_its_own_data_as_the_method_does(kind: str, k: int, t: int, b: int, tmp_path: Path) -> None:
    """Of any number of units, steps and episodes."""
    run, agent = exported(kind, tmp_path)
    rng = np.random.default_rng(0)
    episodes = Episodes(
        observation=rng.normal(size=(k, t + 1, b, *run.family.observation_shape)).astype(np.float32),
        action=rng.integers(4, size=(k, t, b)) if run.family.action.discrete else rng.normal(size=(k, t, b, 2)),
        reward=rng.normal(size=(k, t, b)),
        length=rng.integers(1, t + 1, size=(k, b)),
        terminated=np.zeros((k, b)),
    )
    adapted = Policy(tmp_path).adapt(*episodes)
    wanted = jax.jit(run.algorithm.learn)(agent.params, jax.tree.map(jnp.asarray, episodes))
    for got, own in ((adapted.params, wanted.params), (adapted.memory, wanted.carry)):
        for name, array in trees.by_path(own).items():
            np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
    act_along(run, wanted, adapted, batch=2)


def user_made(network: nn.Module) -> Run:
    run = untrained(POINT, {"name": "maml"})
    policy = memoryless_policy(network, None, run.family.observation_shape, run.family.action)
    algorithm = maml(run.family, policy, optax.adam(1e-3))
    return run._replace(policy=policy, algorithm=algorithm, params=policy.init(jax.random.key(0)))


class Inverse(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(jax.vmap(lambda row: jnp.linalg.inv(jnp.diag(2.0 + row**2)) @ row)(x))


def test_a_network_that_numpy_does_not_know_still_acts_through_jax_export(tmp_path: Path) -> None:
    run = user_made(Inverse())
    about = export_run(run, tmp_path)
    assert about["refused"].startswith("policy = 'lu'")
    with pytest.raises(ValueError, match=r"policy = 'lu'.*use engine='jax'"):
        Policy(tmp_path)
    act_along(run, Agent(run.params, ()), Policy(tmp_path, engine="jax"), batch=2)


class Counting(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(x) / len(x)


def test_a_network_that_counts_its_batch_acts_and_says_why_it_does_not_adapt(tmp_path: Path) -> None:
    run = user_made(Counting())
    about = export_run(run, tmp_path)
    assert about["no_adapt"].startswith("adaptation to any number of episodes cannot be traced")
    act_along(run, Agent(run.params, ()), Policy(tmp_path, engine="jax"), batch=1)
    with pytest.raises(ValueError, match="any number of episodes"):
        Policy(tmp_path).adapt(*[0] * 5)


def test_a_users_own_network_acts_in_numpy_too(tmp_path: Path) -> None:
    run = user_made(nn.Sequential([nn.Dense(5), nn.LayerNorm(), nn.gelu, nn.Dense(2)]))
    assert export_run(run, tmp_path)["refused"] is None
    act_along(run, Agent(run.params, ()), Policy(tmp_path), batch=2)


def test_a_network_of_bfloat16_acts_in_numpy_and_through_jax_export(tmp_path: Path) -> None:
    """It is stored as it is; what comes out is near what XLA computes, which leaves out some of the roundings."""
    run = user_made(nn.Sequential([nn.Dense(5, param_dtype=jnp.bfloat16), nn.tanh, nn.Dense(2, dtype=jnp.bfloat16)]))
    agent = Agent(run.params, ())
    assert export_run(run, tmp_path)["refused"] is None
    assert b'"BF16"' in (tmp_path / "weights.safetensors").read_bytes()
    equations = json.loads((tmp_path / "policy.json").read_text())["act"]["equations"]
    rounded = [str(inputs[0]) for operation, inputs, *_ in equations if operation == "reduce_precision"]
    assert rounded
    assert not any(name.startswith("params/") for name in rounded)  # they are rounded already
    seen = np.array([[0.3, -0.2], [1.5, 0.4]], np.float32)
    wanted = Actor(run.family, run.policy, agent, jax.random.key(0)).act(seen, deterministic=True)
    for engine in ("numpy", "jax"):
        policy = Policy(tmp_path, engine)
        action, _ = policy.act(policy.reset(2), seen)
        np.testing.assert_allclose(action, wanted, atol=0.02)
        assert np.abs(action).max() > 0.1
    drawn, _ = policy.act(policy.reset(2), seen, np.random.default_rng(0))
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_weights_that_numpy_cannot_read_are_refused(kind: str, tmp_path: Path) -> None:
    run = user_made(nn.Dense(2, param_dtype=kind, dtype=jnp.float32))
    with pytest.raises(Refusal, match=rf"bias = '{kind}': numpy cannot read this type"):
        export_run(run, tmp_path)


def test_what_cannot_be_acted_on_is_refused(tmp_path: Path) -> None:
    exported("gru", tmp_path)
    policy = Policy(tmp_path)
    with pytest.raises(ValueError, match="engine = 'torch': give 'numpy' or 'jax'"):
        Policy(tmp_path, engine="torch")
    with pytest.raises(ValueError, match=r"observation\.shape = \(3,\): give \(1, 2\)"):
        policy.act(policy.reset(), np.zeros(3))
    _, state = policy.act(policy.reset(), np.zeros(2))
    with pytest.raises(ValueError, match="reward = None: this policy remembers rewards"):
        policy.act(state, np.zeros(2))


BLOCKED = ("jax", "jaxlib", "flax", "metarl_jax", "safetensors", "flatbuffers")


def test_the_example_acts_where_jax_cannot_be_imported(tmp_path: Path) -> None:
    """In a process of its own; the same steps by the run's own policy lead to the same place."""
    run, agent = exported("gaussian", tmp_path)
    example = Path(__file__).parents[2] / "examples" / "act_without_jax.py"
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({BLOCKED}))\nrunpy.run_path({str(example)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    actor, position = Actor(run.family, run.policy, agent, jax.random.key(0)), jnp.zeros(2)
    for _ in range(100):
        position = position + run.family.control(actor.act(position, deterministic=True))
    printed = np.array(eval(done.stdout.split(", at ")[1].split(" in the end")[0]))
    np.testing.assert_allclose(printed, position, atol=2e-3)
    assert len(example.read_text().splitlines()) <= 40


def test_the_page_on_exporting_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported("squashed", tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    names: dict = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
            exec(compile(block, "export.md", "exec"), names)
    finally:
        sys.modules.pop("policy", None)
    assert names["action"].shape == names["control"].shape == (2,)
    moved = [not np.array_equal(names["adapted"].params[name], x) for name, x in names["policy"].params.items()]
    assert any(moved)


def test_weights_are_read_as_the_library_reads_them(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    written = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b/c": np.array([True, False]), "d": np.array(3)}
    save_file(written, tmp_path / "x.safetensors", {"format": "np"})
    read = read_safetensors(tmp_path / "x.safetensors")
    assert read.keys() == written.keys()
    for name, array in written.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_the_file_that_is_exported_is_the_one_that_is_tested(tmp_path: Path) -> None:
    exported("choices", tmp_path)
    theirs = runpy.run_path(str(tmp_path / "policy.py"))["Policy"](tmp_path)
    ours = Policy(tmp_path)
    seen = np.eye(3)[1]
    np.testing.assert_array_equal(theirs.act(theirs.reset(), seen)[0], ours.act(ours.reset(), seen)[0])
