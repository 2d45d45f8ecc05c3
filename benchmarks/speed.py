"""Environment steps per second of task families and physics engines on this machine: one table.

    python benchmarks/speed.py
    python benchmarks/speed.py --cases ant_direction/spring ant_direction/mujoco --lanes 400

Rollouts of a small policy (two layers of 64; convolutions for games), compilation not counted. Families of one body
differ in the reward alone, so one of them stands for its body on every engine; new physics are timed on MuJoCo's own.
Five repetitions, fewer if they take longer than ten seconds. Results go to benchmarks/results/speed.{json,md}; cases
measured before are kept unless they are measured again.
"""

import argparse
import json
import os
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from learning import RESULTS

from metarl_jax.collect.rollout import rollout
from metarl_jax.networks import POLICIES
from metarl_jax.tasks import FAMILIES
from metarl_jax.types import Array, Key

ENGINES = ("spring", "positional", "generalized", "mjx", "mujoco")
CASES = [
    *("navigation_finn", "navigation_corner", "navigation_momentum", "navigation_walls"),
    *("bandit_bernoulli", "bandit_gaussian", "tabular_mdp", "minatar_variants", "minatar_games"),
    *(f"{body}_direction/{engine}" for body in ("half_cheetah", "ant", "walker", "humanoid") for engine in ENGINES),
    *(f"hopper_velocity/{engine}" for engine in ENGINES),
    *(f"{name}/mujoco" for name in ("swimmer_velocity", "random_dynamics", "crippled_joint", "sloped_ground")),
]
HORIZON = 100
REPETITIONS = 5
LONGEST = 10.0  # seconds after which no further repetition begins
LANES, FEW_LANES = 400, 40
SLOW_ON_CPUS = ("generalized", "mjx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES, metavar="FAMILY[/ENGINE]")
    parser.add_argument("--lanes", type=int, help="episodes side by side; 400 by default, of slow engines on CPUs 40")
    options = parser.parse_args()
    file = RESULTS / "speed.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for case in options.cases:
        slow = jax.default_backend() == "cpu" and case.endswith(SLOW_ON_CPUS)
        results[case] = measure(case, options.lanes or (FEW_LANES if slow else LANES))
        print(case, results[case], flush=True)
        write(file, {case: results[case] for case in CASES if case in results})


def measure(case: str, lanes: int) -> dict[str, Any]:
    """Median over repetitions of steps per second, and of CPU microseconds (all threads) per step."""
    name, _, engine = case.partition("/")
    settings: dict[str, Any] = {"backend": engine} if engine else {}
    if not name.startswith("bandit"):
        settings["horizon"] = HORIZON
    family = FAMILIES[name](**settings)
    is_game = len(family.observation_shape) == 3
    policy = POLICIES["conv" if is_game else "mlp"](family.observation_shape, family.action)
    params = policy.init(jax.random.key(0))

    @jax.jit
    def play(key: Key) -> Array:
        keys = jax.random.split(key, lanes)
        tasks = jax.vmap(family.sample)(keys)
        data = jax.vmap(lambda task, key: rollout(family, policy, params, task, key, 1))(tasks, keys)
        return jax.tree.map(jnp.sum, (data.reward, data.log_prob, data.percept.observation))

    started = time.perf_counter()
    jax.block_until_ready(play(jax.random.key(0)))
    first = time.perf_counter() - started
    steps = lanes * family.horizon
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while len(seconds) < REPETITIONS and sum(seconds) < LONGEST:
        started, cpu_started = time.perf_counter(), time.process_time()
        jax.block_until_ready(play(jax.random.key(1 + len(seconds))))
        seconds.append(time.perf_counter() - started)
        cpu_seconds.append(time.process_time() - cpu_started)
    return {
        "steps_per_second": round(steps / float(np.median(seconds))),
        "cpu_microseconds_per_step": round(1e6 * float(np.median(cpu_seconds)) / steps, 2),
        "first_call_seconds": round(first, 1),
        "repetitions": len(seconds),
        "lanes": lanes,
        "device": jax.devices()[0].device_kind,
        "jax": version("jax"),
        "cores": os.cpu_count(),
    }


def write(file: Path, results: dict[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(results, indent=1) + "\n")
    lines = [
        "# speed",
        "",
        "`python benchmarks/speed.py`: rollouts of so many episodes side by side. `first call` includes compilation; "
        "`calls`: so many after it, of which this is the median. "
        f"An episode that ends early still takes its whole horizon, of {HORIZON} steps (bandits: 1, so that little but "
        "the price of a call is measured).",
        "",
        "| family | engine | episodes | device | jax | steps / s | CPU us / step | calls | first call, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case, result in results.items():
        name, _, engine = case.partition("/")
        lines.append(
            f"| {name} | {engine} | {result['lanes']} | {result['device']}, {result['cores']} cores | {result['jax']} "
            f"| {result['steps_per_second']:,} | {result['cpu_microseconds_per_step']:.2f} "
            f"| {result['repetitions']} | {result['first_call_seconds']:.1f} |"
        )
    file.with_suffix(".md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
