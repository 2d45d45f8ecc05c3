"""What a meta-iteration costs here and in another library, the same work side by side on one core."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from metarl_jax.collect.randomness import stream
from metarl_jax.config import Config, load_config
from metarl_jax.config.components import find_component
from metarl_jax.cores import bound_to, kept_to
from metarl_jax.diagnostics.benchmark import cpu_name
from metarl_jax.diagnostics.programs import update_once
from metarl_jax.runs.build import build
from metarl_jax.studies.results import RESULTS, configured, markdown, one_by_one, table

Update = Callable[[], float]
"""Do one meta-iteration; the mean return after adaptation."""
PEER = "torch_maml:make_update"
FOLDER = Path("benchmarks")


class Case(NamedTuple):
    """A config and what is changed in it."""

    config: str
    overrides: tuple[str, ...] = ()


CASES = {
    "promp_corner": Case("configs/promp_navigation_corner.yaml"),
    "trpo_maml_corner": Case("configs/maml_navigation_corner.yaml", ("algorithm.curvature_every=1",)),
    "trpo_maml_finn": Case(
        "configs/trpo_maml_navigation.yaml",
        (
            "algorithm.constrain=adapted",
            "algorithm.estimator=log_likelihood",
            "policy.min_std=1e-6",
            "training.episodes_per_task=20",
        ),
    ),
    "promp_half_cheetah": Case("configs/promp_half_cheetah_direction.yaml", ("tasks.backend=mujoco",)),
}
"""20 episodes of 100 steps before and after one inner step, two layers of 64: 40 tasks, Finn's 20."""


def study(
    cases: Iterable[str] = tuple(CASES),
    rounds: int = 5,
    peer: str = PEER,
    file: Path = RESULTS / "peers.json",
    report: Callable[[str, dict[str, Any]], object] = lambda case, measured: None,
) -> dict[str, Any]:
    """Time ours and a peer in turn; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was measured of others is kept.
      rounds: meta-iterations of each, after one that is not counted.
      peer: ``module:factory``, looked for in ``benchmarks/`` first: of a config as nested mappings it makes a function
        that does one meta-iteration and returns the mean return after adaptation.
      file: of the numbers, a ``.json``; the page lies beside it.
      report: told about each case.

    Returns:
      What :func:`measure` returns, by case.
    """
    return one_by_one(file, cases, CASES, partial(measure, rounds=rounds, peer=peer), page, report)


def measure(case: str, rounds: int, peer: str = PEER) -> dict[str, Any]:
    """Medians over alternating rounds of CPU seconds (all threads) and wall seconds per meta-iteration, and the ratio.

    Both are bound to one core, so that MuJoCo's engine, too, takes one thread. JAX must not have started before
    the first case: its threads stay on the cores where they were made.

    Args:
      case: of :data:`CASES`.
      rounds: meta-iterations of each, after one that is not counted.
      peer: see :func:`study`.

    Returns:
      A JSON object; ``ratio`` is the median of the rounds' CPU seconds of the peer over ours.
    """
    config = load_config(CASES[case].config, CASES[case].overrides)
    with kept_to(bound_to()[-1:]):
        updates = {"ours": _ours(config), "peer": find_component(peer, [FOLDER])(config.model_dump())}
        for update in updates.values():
            update()
        timings = np.array([[_timed(update) for update in updates.values()] for _ in range(rounds)])
    medians = np.median(timings, axis=0)
    return {
        **{
            name: dict(zip(("cpu_seconds", "seconds"), row, strict=True))
            for name, row in zip(updates, medians.tolist(), strict=True)
        },
        "ratio": float(np.median(timings[:, 1, 0] / timings[:, 0, 0])),
        "rounds": rounds,
        "peer_name": peer,
        "cpu": cpu_name(),
        "jax": version("jax"),
        "torch": version("torch") if peer == PEER else None,
    }


def _ours(config: Config) -> Update:
    experiment = build(config)
    update = jax.jit(partial(update_once, experiment))
    state = experiment.algorithm.init(stream(config.seed, "initial_params"))

    def once() -> float:
        nonlocal state
        state, info = update(state)
        return float(info["return"][-1])

    return once


def _timed(update: Update) -> tuple[float, float]:
    started, cpu_started = time.perf_counter(), time.process_time()
    update()
    return time.process_time() - cpu_started, time.perf_counter() - started


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a row for each case."""
    head = ["work", "ours, CPU s", "peer, CPU s", "ratio", "ours, s", "peer, s", "rounds", "versions", "CPU"]
    return markdown(
        f"# {name}",
        "`python benchmarks/peers.py`: one meta-iteration, ours and that of a loop in PyTorch "
        "([torch_maml.py](../torch_maml.py)), in turn in one process on one thread each; medians, and the median of "
        "the rounds' ratios of CPU seconds.",
        table(head, [_row(case, result) for case, result in results.items()]),
    )


def _row(case: str, result: dict[str, Any]) -> list[str]:
    ours, peer = result["ours"], result["peer"]
    peer_version = result["peer_name"] if result["torch"] is None else f"torch {result['torch']}"
    return [
        configured(*CASES[case]),
        f"{ours['cpu_seconds']:.2f}",
        f"{peer['cpu_seconds']:.2f}",
        f"{result['ratio']:.1f}",
        f"{ours['seconds']:.2f}",
        f"{peer['seconds']:.2f}",
        str(result["rounds"]),
        f"jax {result['jax']}, {peer_version}",
        result["cpu"],
    ]
