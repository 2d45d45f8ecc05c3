"""Environment steps per second of task families and physics engines on this machine."""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import arguments
from metarl_jax.collect.rollout import rollout
from metarl_jax.networks import POLICIES
from metarl_jax.studies.results import RESULTS, markdown, one_by_one, table
from metarl_jax.tasks import FAMILIES
from metarl_jax.types import Array, Key, TaskFamily

_ENGINES = ("spring", "positional", "generalized", "mjx", "mujoco")
CASES = [
    *("navigation_finn", "navigation_corner", "navigation_momentum", "navigation_walls"),
    *("bandit_bernoulli", "bandit_gaussian", "tabular_mdp", "minatar_variants", "minatar_games"),
    *(f"{body}_direction/{engine}" for body in ("half_cheetah", "ant", "walker", "humanoid") for engine in _ENGINES),
    *(f"hopper_velocity/{engine}" for engine in _ENGINES),
    *(f"{name}/mujoco" for name in ("swimmer_velocity", "random_dynamics", "crippled_joint", "sloped_ground")),
]
_HORIZON = 100
_REPETITIONS = 5
_LONGEST = 10.0  # seconds after which no further repetition begins
_LANES, _FEW_LANES = 400, 40
_SLOW_ON_CPUS = ("generalized", "mjx")


def study(
    cases: Iterable[str] = tuple(CASES),
    lanes: int | None = None,
    file: Path = RESULTS / "speed.json",
    report: Callable[[str, dict[str, Any]], object] = lambda case, measured: None,
) -> dict[str, Any]:
    """Time families and engines; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      lanes: episodes side by side; if None 400, of slow engines on CPUs 40.
      file: of the numbers, a ``.json``; the page lies beside it.
      report: told about each case.

    Returns:
      What :func:`measure` returns, by case.
    """
    return one_by_one(file, cases, CASES, partial(measure, lanes=lanes), page, report)


def measure(case: str, lanes: int | None = None) -> dict[str, Any]:
    """Time rollouts of a small policy: two layers of 64, convolutions for games.

    Args:
      case: ``FAMILY`` or ``FAMILY/ENGINE``.
      lanes: episodes side by side; if None 400, of slow engines on CPUs 40.

    Returns:
      Medians over repetitions of steps per second and of CPU microseconds (all threads) per step, the seconds of the
      first call, and on what they were measured.
    """
    is_slow = jax.default_backend() == "cpu" and case.endswith(_SLOW_ON_CPUS)
    lanes = lanes or (_FEW_LANES if is_slow else _LANES)
    family = _family(case)
    play = _rollouts(family, lanes)
    first, _ = _timed(play, 0)
    timings: list[tuple[float, float]] = []
    while len(timings) < _REPETITIONS and sum(seconds for seconds, _ in timings) < _LONGEST:
        timings.append(_timed(play, 1 + len(timings)))
    seconds, cpu_seconds = np.median(timings, axis=0)
    steps = lanes * family.horizon
    return {
        "steps_per_second": round(steps / float(seconds)),
        "cpu_microseconds_per_step": round(1e6 * float(cpu_seconds) / steps, 2),
        "first_call_seconds": round(first, 1),
        "repetitions": len(timings),
        "lanes": lanes,
        "device": jax.devices()[0].device_kind,
        "jax": version("jax"),
        "cores": os.cpu_count(),
    }


def _family(case: str) -> TaskFamily:
    name, _, engine = case.partition("/")
    factory = FAMILIES[name]
    wanted = {"horizon": _HORIZON} if "horizon" in arguments(factory) else {}
    return factory(**wanted, **({"backend": engine} if engine else {}))


def _rollouts(family: TaskFamily, lanes: int) -> Callable[[Key], Array]:
    """A compiled program that plays one episode of each of ``lanes`` tasks; what it returns uses all that is played."""
    is_game = len(family.observation_shape) == 3
    policy = POLICIES["conv" if is_game else "mlp"](family.observation_shape, family.action)
    params = policy.init(jax.random.key(0))

    def play(key: Key) -> Array:
        keys = jax.random.split(key, lanes)
        tasks = jax.vmap(family.sample)(keys)
        data = jax.vmap(lambda task, key: rollout(family, policy, params, task, key, 1))(tasks, keys)
        return jax.tree.map(jnp.sum, (data.reward, data.log_prob, data.percept.observation))

    return jax.jit(play)


def _timed(play: Callable[[Key], Array], seed: int) -> tuple[float, float]:
    """Seconds, and CPU seconds of all threads."""
    started, cpu_started = time.perf_counter(), time.process_time()
    jax.block_until_ready(play(jax.random.key(seed)))
    return time.perf_counter() - started, time.process_time() - cpu_started


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    titles = "family | engine | episodes | device | jax | steps / s | CPU us / step | calls | first call, s"
    return markdown(
        f"# {name}",
        "`python benchmarks/speed.py`: rollouts of so many episodes side by side. `first call` includes compilation; "
        "`calls`: so many after it, of which this is the median. "
        f"An episode that ends early still takes its whole horizon, of {_HORIZON} steps (bandits: 1, so that little "
        "but the price of a call is measured).",
        table(titles.split(" | "), [_row(case, result) for case, result in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str]:
    name, _, engine = case.partition("/")
    return [
        name,
        engine,
        str(result["lanes"]),
        f"{result['device']}, {result['cores']} cores",
        result["jax"],
        f"{result['steps_per_second']:,}",
        f"{result['cpu_microseconds_per_step']:.2f}",
        str(result["repetitions"]),
        f"{result['first_call_seconds']:.1f}",
    ]
