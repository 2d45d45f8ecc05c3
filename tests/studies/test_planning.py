"""Planning: every method and every family, what is kept, what is refused, and the page."""

import json
from pathlib import Path
from typing import Any

import jax
import pytest

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.checks import Refusal
from metarl_jax.config import config_from_dict
from metarl_jax.networks.memory import MEMORIES
from metarl_jax.runs.build import build
from metarl_jax.studies import commands, plan_here, plan_remat
from metarl_jax.studies import plan as planning
from metarl_jax.studies.plan import CASES, TARGETS, names, study
from metarl_jax.tasks import FAMILIES

PLANNED: dict[str, Any] = {
    "compiles": True,
    "compile_seconds": 30.4,
    "memory": {"total": 2**31, "trajectories": 2**29, "fits": False},
    "kernels": {"per_update": 6442.0, "per_environment_step": 20.0},
    "seconds": {"per_update": 0.02106},
    "largest_meta_batch": 12000,
}


def test_every_method_every_family_and_every_memory_is_a_config() -> None:
    methods = {f"{name}, {planning.family_of(name)}" for name in ALGORITHMS}
    families = {f"promp, {name}" for name in FAMILIES}
    assert methods | families <= set(CASES)
    assert {"rl2, tabular_mdp, s5, splagger", "rl2, tabular_mdp, hypernetwork"} <= set(CASES)
    remembering = [tree for case, tree in CASES.items() if case.startswith("rl2, tabular_mdp")]
    assert {build(config_from_dict(tree)).config.policy.model_dump()["memory"] for tree in remembering} == set(MEMORIES)
    for tree in CASES.values():
        assert config_from_dict(tree).training.meta_batch_size == 40


def test_a_study_goes_on_and_keeps_refusals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[str, str, bool]] = []

    def plan(config: Any, target: str, *, confirm: bool) -> dict[str, Any]:
        asked.append((config.tasks.name, target, confirm))
        if config.tasks.name == "ant_goal":
            raise Refusal("tasks.backend", "mujoco", "no")
        return PLANNED

    monkeypatch.setattr(planning, "plan", plan)
    monkeypatch.setattr(planning.jax, "clear_caches", lambda: None)
    file = tmp_path / "plan.json"
    study(["promp, ant_goal"], ["h100"], file)
    results = study(["promp, hopper_velocity", "promp, ant_goal"], ["h100"], file)
    assert asked == [("ant_goal", "h100", False), ("hopper_velocity", "h100", False)]
    assert list(results) == ["promp, ant_goal: h100", "promp, hopper_velocity: h100"]
    rows = file.with_suffix(".md").read_text().splitlines()
    assert "## h100" in rows
    assert "| promp, ant_goal | no: tasks.backend = 'mujoco': no | | | | | | |" in rows
    assert "| promp, hopper_velocity | 30 | 2.0 GiB (too much) | 512.0 MiB | 20 | 6,442 | 21.1 | 12,000 |" in rows
    study(["promp, ant_goal"], ["h100"], file, again=True)
    assert len(asked) == 3


def test_versions_are_kept_and_rows_without_them_are_marked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(planning, "plan", lambda config, target, *, confirm: PLANNED)
    monkeypatch.setattr(planning, "compilers", lambda target: {"jax": "0.10.2", "libtpu": "0.0.52"})
    monkeypatch.setattr(planning.jax, "clear_caches", lambda: None)
    file = tmp_path / "plan.json"
    old, new = names(["promp, ant_goal", "promp, hopper_velocity"], ["v5e:2x2"])
    file.write_text(json.dumps({old: PLANNED}))
    results = study(["promp, hopper_velocity"], ["v5e:2x2"], file)
    assert results == {old: PLANNED, new: PLANNED | {"versions": {"jax": "0.10.2", "libtpu": "0.0.52"}}}
    page = file.with_suffix(".md").read_text()
    assert "\nCompiled by jax 0.10.2 with libtpu 0.0.52; rows marked * are older and do not say by which.\n" in page
    assert "| promp, ant_goal * |" in page
    assert "| promp, hopper_velocity |" in page
    assert planning.compiled_by([PLANNED]) == "What compiled these rows they do not say."


def test_what_recomputing_saves_is_planned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of each inner step 2 MiB are stored, 1 in the trajectories and 1 besides; recomputed, a tenth of the latter."""

    def plan(config: Any, target: str, *, confirm: bool) -> dict[str, Any]:
        algorithm, mib = config.algorithm, 2**20
        besides = 10 * mib + algorithm.num_inner_steps * (mib // 10 if algorithm.remat else mib)
        memory = {"trajectories": algorithm.num_inner_steps * mib}
        memory["temporary"] = memory["trajectories"] + besides
        assert (target, config.training.meta_batch_size, algorithm.task_chunk) == ("h100", 400, None)
        return PLANNED | {"memory": memory | {"total": memory["temporary"] + mib}}

    monkeypatch.setattr(planning, "plan", plan)
    monkeypatch.setattr(planning.jax, "clear_caches", lambda: None)
    file = tmp_path / "remat.json"
    plan_remat.study(["10 inner, stored", "1 inner, stored"], file)
    assert list(plan_remat.study(file=file)) == list(plan_remat.CASES)
    rows = file.with_suffix(".md").read_text().splitlines()
    assert "| stored | 10 | 31.0 MiB | 10.0 MiB | 20.0 MiB | +82% | 21.1 |" in rows
    assert "| recomputed | 10 | 22.0 MiB | 10.0 MiB | 11.0 MiB | +9% | 21.1 |" in rows


def test_bodies_are_moved_by_jax_unless_the_c_engine_is_asked_for() -> None:
    backends = {case: planning.on_device(CASES[case]).tasks.model_dump().get("backend") for case in CASES}
    assert backends["promp, ant_goal"] == "mjx"
    assert backends["promp, half_cheetah_velocity"] == "spring"
    on_host = [case for case, backend in backends.items() if backend == "mujoco"]
    assert on_host == ["promp, half_cheetah_direction, mujoco"]


def test_targets_are_planned_one_after_the_other() -> None:
    assert names(["a", "b"], TARGETS) == ["a: h100", "b: h100", "a: v5e:2x2", "b: v5e:2x2"]


def test_memory_here_is_compared_with_the_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    def metarl(*words: str, capture: bool) -> str:
        asked.append([*words])
        return json.dumps({"memory": {"process": 2**30, "total": 2**29}})

    monkeypatch.setattr(commands, "metarl", metarl)
    monkeypatch.setattr(commands, "peak_bytes", lambda *words: asked.append([*words]) or 2**31)
    plan_here.study(["400 tasks"], tmp_path / "here.json")
    planned, trained = asked
    assert planned[-5:] == ["--target", "cpu", "--devices", "1", "--json"]
    assert trained[:3] == ["train", "promp_navigation_corner", "training.meta_batch_size=400"]
    row = (tmp_path / "here.md").read_text().splitlines()[-1]
    command = "metarl plan promp_navigation_corner training.meta_batch_size=400 --target cpu --devices 1"
    assert row.startswith(f"| `{command}` | 1.5 GiB | 2.0 GiB | 0.75 | ")
    assert row.endswith(f" | {jax.__version__} |")
