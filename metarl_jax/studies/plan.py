"""Every method on one task family, every family with ProMP and every memory, planned for hardware that is not here."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jax

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.checks import Refusal
from metarl_jax.config import Config, ConfigError, config_from_dict
from metarl_jax.networks.memory import MEMORIES
from metarl_jax.plan.estimate import plan
from metarl_jax.plan.targets import compilers
from metarl_jax.runs.memory import in_words
from metarl_jax.studies.results import RESULTS, markdown, one_by_one, table, to_measure
from metarl_jax.tasks import FAMILIES

Tree = dict[str, Any]
_POLICIES: dict[str, Tree] = {
    "cavia": {"context_size": 4},
    "rl2": {"name": "recurrent"},
    "trpo_rl2": {"name": "recurrent"},
    "ad": {"name": "recurrent"},
    "dpt": {"name": "in_context"},
    "varibad": {"name": "belief"},
    "minatar_variants": {"name": "conv"},
    "minatar_games": {"name": "conv"},
}
_MEMORIES: dict[str, Tree] = {"transformer": {"window": 20}}  # it has no default: a trial of two episodes of ten steps


def _case(tasks: Tree, algorithm: str, named: str, **policy: Any) -> Tree:
    return {
        "tasks": tasks,
        "policy": _POLICIES.get(named, {}) | policy,
        "algorithm": {"name": algorithm},
        "training": {"meta_batch_size": 40},
    }


_remembering = partial(_case, {"name": "tabular_mdp"}, "rl2", "rl2")
_FAMILIES = {"ad": "bandit_bernoulli"}
"""Of a method whose default settings are not for navigation."""


def family_of(algorithm: str) -> str:
    """The family that an algorithm is planned on.

    Example:
      >>> family_of("promp"), family_of("ad")
      ('navigation_finn', 'bandit_bernoulli')
    """
    return _FAMILIES.get(algorithm, "navigation_finn")


CASES: dict[str, Tree] = {
    **{f"{name}, {family_of(name)}": _case({"name": family_of(name)}, name, name) for name in ALGORITHMS},
    **{f"promp, {name}": _case({"name": name}, "promp", name) for name in FAMILIES},
    **{
        f"promp, half_cheetah_direction, {backend}": _case(
            {"name": "half_cheetah_direction", "backend": backend}, "promp", "promp"
        )
        for backend in ("mjx", "mujoco")
    },
    "promp, ant_direction, spring": _case({"name": "ant_direction", "backend": "spring"}, "promp", "promp"),
    "rl2, tabular_mdp": _remembering(),
    **{
        f"rl2, tabular_mdp, {name}": _remembering(memory=name, **_MEMORIES.get(name, {}))
        for name in MEMORIES
        if name != "gru"  # the default: the case above
    },
    "rl2, tabular_mdp, s5, splagger": _remembering(memory="s5", aggregate="splagger"),
    "rl2, tabular_mdp, hypernetwork": _remembering(heads="hypernetwork"),
}
"""The sections of a config by what is planned; everything else has its default."""
TARGETS = ("h100", "v5e:2x2")


def names(cases: Iterable[str] = CASES, targets: Iterable[str] = TARGETS) -> list[str]:
    """What the results call each case on each target.

    Example:
      >>> names(["promp, ant_goal"], ["h100"])
      ['promp, ant_goal: h100']
    """
    cases = list(cases)
    return [f"{case}: {target}" for target in targets for case in cases]


def study(
    cases: Iterable[str] = tuple(CASES),
    targets: Iterable[str] = TARGETS,
    file: Path = RESULTS / "plan.json",
    again: bool = False,
) -> dict[str, Any]:
    """Plan each case for each target; write numbers and page.

    Args:
      cases: of :data:`CASES`; what was planned of others is kept.
      targets: of :data:`metarl_jax.plan.targets.NAMES`.
      file: of the numbers, a ``.json``; the page lies beside it.
      again: plan also what the results have.

    Returns:
      By :func:`names`, what :func:`metarl_jax.plan.estimate.plan` says, or why it is ``refused``.
    """
    return one_by_one(file, to_measure(file, names(cases, targets), again), names(), measure, page)


def measure(name: str) -> dict[str, Any]:
    """Plan one case for one target.

    Args:
      name: of :func:`names`.

    Returns:
      As :func:`planned` does.
    """
    case, _, target = name.partition(": ")
    return planned(on_device(CASES[case]), target)


def planned(config: Config, target: str) -> dict[str, Any]:
    """Plan a config for a target, one of many.

    Args:
      config: what is to be trained.
      target: of :data:`metarl_jax.plan.targets.NAMES`.

    Returns:
      The plan, or why it is ``refused``; and the ``versions`` of what compiled it.
    """
    versions = {"versions": compilers(target)}
    try:
        return plan(config, target, confirm=False) | versions
    except Refusal as refusal:
        return {"target": target, "refused": str(refusal)} | versions
    finally:
        jax.clear_caches()  # the programs of the next case are others


def on_device(tree: Tree) -> Config:
    """The config of a case; bodies that MuJoCo's C engine moves by default are moved by mjx, its physics in JAX, if
    they can.
    """
    config = config_from_dict(tree)
    if "backend" in tree["tasks"] or getattr(config.tasks, "backend", None) != "mujoco":
        return config
    try:
        return config_from_dict(tree | {"tasks": tree["tasks"] | {"backend": "mjx"}})
    except ConfigError:
        return config


def page(name: str, results: dict[str, Any]) -> str:
    """A :data:`~metarl_jax.studies.results.Page` with a table for each target."""
    targets = dict.fromkeys(key.partition(": ")[2] for key in results)
    head = ["method, family", "compiles, s", "memory", "trajectories", "per env step", "per update", "ms per update"]
    blocks = []
    for target in targets:
        rows = [_row(key.partition(": ")[0], result) for key, result in results.items() if key.endswith(f": {target}")]
        blocks += [f"## {target}", table([*head, "largest meta-batch"], rows)]
    return markdown(
        f"# {name}",
        "Planned by `benchmarks/plan.py` on a machine without these devices: 40 tasks per update, mjx in the place of "
        "MuJoCo's C engine unless that is named, else defaults. "
        "Of one device: memory of an update and, in it, the stored trajectories; kernels per environment step of all "
        "episodes and per update; a roofline estimate of the time (`metarl plan` names its assumptions). The largest "
        "meta-batch, of all devices together, takes memory to grow in proportion: on GPUs one that fits; on TPUs, "
        "where what stays on the chip counts as nothing, only an upper bound (`metarl plan` compiles a second size).",
        compiled_by(results.values()),
        *blocks,
    )


def compiled_by(results: Iterable[dict[str, Any]]) -> str:
    """The versions that compiled some plans, in a sentence; plans from before these were kept say none.

    Example:
      >>> compiled_by([{"versions": {"jax": "0.10.2", "libtpu": "0.0.52"}}, {}])
      'Compiled by jax 0.10.2 with libtpu 0.0.52; rows marked * are older and do not say by which.'
    """
    versions = [one.get("versions", {}) for one in results]
    named = dict.fromkeys(" with ".join(f"{name} {number}" for name, number in one.items()) for one in versions if one)
    older = [] if all(versions) else ["rows marked * are older and do not say by which"]
    return f"Compiled by {'; '.join([*named, *older])}." if named else "What compiled these rows they do not say."


def _row(case: str, result: dict[str, Any]) -> list[str | None]:
    case = case if "versions" in result else f"{case} *"
    if not result.get("compiles"):
        return [case, f"no: {result.get('refused') or result['why']}", *[None] * 6]
    memory, kernels = result["memory"], result["kernels"]
    per_step = kernels["per_environment_step"]
    return [
        case,
        f"{result['compile_seconds']:.0f}",
        in_words(memory["total"]) + ("" if memory["fits"] else " (too much)"),
        None if memory["trajectories"] is None else in_words(memory["trajectories"]),
        None if per_step is None else f"{per_step:,.0f}",
        f"{kernels['per_update']:,.0f}",
        f"{1e3 * result['seconds']['per_update']:,.1f}",
        f"{result['largest_meta_batch']:,}",
    ]
