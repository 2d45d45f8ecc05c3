"""The loop that ours is timed beside: the same gradients, products, rewards, advantages and physics."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.algorithms.gradient.assembly import make_meta_loss, mean_value_and_grad
from metarl_jax.algorithms.gradient.maml import maml_objective
from metarl_jax.algorithms.gradient.promp import promp_objective
from metarl_jax.algorithms.gradient.trust_region import make_kl_product
from metarl_jax.cores import bound_to
from metarl_jax.inner import make_inner_loop
from metarl_jax.networks import mlp_policy
from metarl_jax.studies import peers
from metarl_jax.tasks import FAMILIES

ROOT = Path(__file__).parents[2]
TASKS, EPISODES, HORIZON, LAYERS = 3, 4, 12, 3
KEYS = jax.random.split(jax.random.key(3), TASKS)
SCALES = {"navigation_finn": 0.05, "navigation_corner": 1.0}  # saturated moves end some episodes, and leave the middle


@pytest.fixture
def torch_maml(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import torch_maml

    return torch_maml


def collected(name: str, estimator: str) -> tuple[Any, ...]:
    """Loop, policy, parameters, tasks and two stages, in double precision."""
    family = FAMILIES[name](horizon=HORIZON, action_scale=SCALES[name])
    policy = mlp_policy((2,), family.action, hidden_sizes=(8, 8), init_std=0.7)
    loop = make_inner_loop(family, policy, inner_lr=0.3, episodes_per_task=EPISODES, estimator=estimator)
    params, tasks = policy.init(jax.random.key(0)), jax.vmap(family.sample)(KEYS)
    _, stages = jax.jit(jax.vmap(loop.collect, in_axes=(None, 0, 0)))(params, tasks, KEYS)
    return loop, policy, params, tasks, stages


def to_torch(torch_maml: Any, stage: Any) -> Any:
    """Our batch ``[M, T, B, ...]`` as the peer's stage."""
    data = stage.trajectory
    leaves = (
        *(data.percept.observation, data.action, data.log_prob, data.dist_params.mean),
        *(data.dist_params.log_std[:, 0, 0], stage.advantage, data.mask, data.reward),
    )
    return torch_maml.Stage(*(torch_maml.torch.from_numpy(np.array(leaf)) for leaf in leaves))


def renamed(params: Any) -> dict[str, np.ndarray]:
    """Our parameters under the peer's names."""
    layers = [params["mean"][f"Dense_{i}"] for i in range(LAYERS)]
    kernels = {f"kernel_{i}": np.array(layer["kernel"]) for i, layer in enumerate(layers)}
    return kernels | {f"bias_{i}": np.array(layer["bias"]) for i, layer in enumerate(layers)} | {
        "log_std": np.array(params["log_std"])
    }  # fmt: skip


def assert_same(theirs: dict[str, Any], ours: Any) -> None:
    for name, expected in renamed(ours).items():
        np.testing.assert_allclose(theirs[name].numpy(), expected, rtol=1e-8, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("method", "family", "estimator"),
    [("promp", "navigation_corner", "likelihood_ratio"), ("trpo_maml", "navigation_finn", "log_likelihood")],
)
def test_the_peer_computes_what_ours_does(torch_maml: Any, method: str, family: str, estimator: str) -> None:
    """The same data and parameters: meta-gradient and loss, products with the KL's Hessian, rewards, advantages."""
    torch, is_promp = torch_maml.torch, method == "promp"
    with jax.enable_x64(True):
        loop, policy, params, tasks, stages = collected(family, estimator)
        objective = promp_objective(policy.distribution, 0.2) if is_promp else maml_objective()
        eta = jnp.full(1, 0.1) if is_promp else ()
        nearby = jax.tree.map(lambda x: x + 0.02 * jnp.cos(jnp.arange(x.size, dtype=float)).reshape(x.shape), params)
        value_and_grad = mean_value_and_grad(make_meta_loss(loop, objective), stages, eta, None)
        (loss, _), gradient = jax.jit(value_and_grad)(nearby)
        image = jax.jit(lambda v: make_kl_product(loop, policy.distribution, params, stages)(v))(nearby)

        learner = torch_maml.Learner(0.3, estimator, 0.2 if is_promp else None, 0.1 if is_promp else 0.0)
        here, there = ({k: torch.from_numpy(v) for k, v in renamed(p).items()} for p in (params, nearby))
        data = [to_torch(torch_maml, stage) for stage in stages]
        their_gradient, their_loss = torch_maml.meta_gradient(learner, there, *data)
        np.testing.assert_allclose(their_loss, loss, rtol=1e-9)
        assert_same(their_gradient, gradient)
        assert_same(torch_maml.make_kl_product(learner, here, *data)(there), image)

        first = data[0]
        assert 0.5 < first.mask.mean() <= 1.0
        assert is_promp == bool(first.mask.all())
        world = torch_maml.WORLDS[family](SCALES[family])
        position = first.observation[:, 0]
        for t in range(HORIZON):
            np.testing.assert_allclose(position[first.mask[:, t] > 0], first.observation[:, t][first.mask[:, t] > 0])
            position, reward, _ = world.step(
                torch.from_numpy(np.array(tasks.goal)), first.observation[:, t], first.action[:, t]
            )
            np.testing.assert_allclose(reward * first.mask[:, t], first.reward[:, t], atol=1e-12)
        scored = torch_maml.score(first.observation, first.reward, first.mask, 0.99)
        np.testing.assert_allclose(scored, first.advantage, rtol=1e-6, atol=1e-6)


def test_the_peer_steps_the_same_body(torch_maml: Any) -> None:
    """From our states observations and rewards are ours; its episodes begin like ours, and earn as much."""
    torch, steps, episodes, scale = torch_maml.torch, 20, 100, 5.0
    family = FAMILIES["half_cheetah_direction"](horizon=steps, action_scale=scale, backend="mujoco")
    direction = jnp.resize(jnp.array([1.0, -1.0]), episodes)
    actions = scale * jax.random.normal(jax.random.key(1), (steps, episodes, 6))

    @jax.jit
    def play(keys: jax.Array) -> Any:
        def step(state: Any, action: jax.Array) -> Any:
            moved, seen, reward, _ = jax.vmap(family.step)(direction, state, action, keys)
            return moved, (state.physics.q, state.physics.qd, seen, reward)

        state, first = jax.vmap(family.reset)(direction, keys)
        return first, jax.lax.scan(step, state, actions)[1]

    first, (*states, seen, reward) = jax.tree.map(np.asarray, play(jax.random.split(jax.random.key(0), episodes)))
    world = torch_maml.WORLDS["half_cheetah_direction"](scale)
    controls, tasks = torch.from_numpy(np.array(actions)), torch.from_numpy(np.array(direction))
    state = torch.from_numpy(np.concatenate(states, axis=-1).astype(float))
    moved, earned, _ = world.step(tasks.repeat(steps), state.flatten(0, 1)[:, None], controls.flatten(0, 1)[:, None])
    np.testing.assert_allclose(world.observe(moved)[:, 0], seen.reshape(-1, 17), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(earned[:, 0], reward.ravel(), atol=1e-5)

    torch.manual_seed(0)
    state = world.reset(episodes, 1)
    start = world.observe(state)[:, 0].numpy()
    for numbers in (slice(0, 8), slice(8, 17)):  # positions, velocities
        np.testing.assert_allclose(start[:, numbers].std(), first[:, numbers].std(), rtol=0.1)
    total = torch.zeros(episodes, 1)
    for control in controls:
        state, earned, _ = world.step(tasks, state, control[:, None])
        total += earned
    difference = total[:, 0].numpy() - reward.sum(axis=0)
    assert abs(difference.mean()) < 4.0 * difference.std() / episodes**0.5
    np.testing.assert_allclose(total.std(), reward.sum(axis=0).std(), rtol=0.2)


def _stub(settings: dict[str, Any]) -> Callable[[], float]:
    assert settings["training"]["meta_batch_size"] == 2
    assert len(bound_to()) <= 1
    return lambda: 0.0


def test_both_are_timed_in_turn_and_the_page_shows_the_ratio(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A peer of one's own is found by name and given the config; no torch is needed."""
    monkeypatch.chdir(ROOT)
    small = ("training.meta_batch_size=2", "training.episodes_per_task=2", "tasks.horizon=3", "algorithm.num_epochs=1")
    monkeypatch.setitem(peers.CASES, "promp_corner", peers.Case("configs/promp_navigation_corner.yaml", small))
    times = iter([(1.0, 2.0), (3.0, 4.0), (2.0, 2.0), (8.0, 4.0), (3.0, 2.0), (9.0, 6.0)])
    monkeypatch.setattr(peers, "_timed", lambda update: (update(), next(times))[1])
    monkeypatch.setattr(peers, "find_component", lambda name, folders: {"mine:loop": _stub}[name])
    results = peers.study(["promp_corner"], rounds=3, peer="mine:loop", file=tmp_path / "peers.json")
    assert results["promp_corner"]["ours"] == {"cpu_seconds": 2.0, "seconds": 2.0}
    assert results["promp_corner"]["peer"] == {"cpu_seconds": 8.0, "seconds": 4.0}
    assert results["promp_corner"]["ratio"] == 3.0
    assert "| 2.00 | 8.00 | 3.0 | 2.00 | 4.00 | 3 |" in (tmp_path / "peers.md").read_text()
