"""Scaling: what is timed, and what the page says."""

import json
import runpy
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from metarl_jax.studies import scaling
from metarl_jax.studies.scaling import _Cost, measure

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("cores", "apart"), [([4, 7], [(4,), (7,)]), ([4], []), ([], [])])
def test_one_core_all_and_a_run_on_each_take_turns(
    cores: list[int], apart: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[tuple[int, ...], bool]] = []
    here, both = threading.local(), threading.Barrier(2)

    def timed(*words: str, cache: Path) -> _Cost:
        is_one, run_dir = "--devices" in words, Path(words[-1])
        is_crowded = "crowded" in run_dir.name
        calls.append((here.cores, is_one))
        if is_crowded:
            both.wait(timeout=10)  # they are trained at once
        run_dir.mkdir()
        later = 2.5 if is_crowded else 2.0 if is_one else 1.0
        rows = [json.dumps({"iteration_seconds": seconds}) for seconds in (9.0, 9.0, *[later] * 3)]
        (run_dir / "metrics.jsonl").write_text("".join(row + "\n" for row in rows))
        return _Cost(100.0, 10.0 if is_one else 11.0)

    monkeypatch.setattr(scaling, "_timed", timed)
    monkeypatch.setattr(scaling, "bound_to", lambda: cores)
    monkeypatch.setattr(scaling, "usable_cores", lambda: 2)
    monkeypatch.setattr(scaling, "bind", lambda cores: setattr(here, "cores", tuple(cores)))
    measured = measure("ProMP, corner", rounds=2)
    for turn in (calls[: len(calls) // 2], calls[len(calls) // 2 :]):
        assert turn[:2] == [(tuple(cores[-1:]), True), (tuple(cores), False)]
        assert sorted(turn[2:]) == [(share, True) for share in apart]
    assert measured["one"] == {"seconds": 2.0, "cpu_seconds": 10.0}
    assert measured["other"] == {"seconds": 1.0, "cpu_seconds": 11.0}
    assert measured["crowded"] == ({"runs": 2, "seconds": 2.5} if apart else None)


def test_many_runs_apart_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same runs both ways; a run apart and the same one together are told by what they were trained with."""
    calls: list[tuple[str, ...]] = []

    def timed(*words: str, cache: Path) -> _Cost:
        calls.append(words)
        if "--seeds" in words:
            for seed in range(4):
                pretend(Path(words[-1]) / f"seed-{seed}", 0, seed)
        elif "--devices" in words:
            pretend(Path(words[-1]), 0, words[5].split("=")[1])
        elif words[0] == "train":
            pretend(Path(words[-1]), words[3].split("=")[1], words[4].split("=")[1])
            return _Cost(1.0, 2.0)
        else:
            study = json.loads(Path(words[1]).read_text())
            assert len(study["grid"]["algorithm.inner_lr"]) * len(study["seeds"]) == 16
            for number, size in enumerate(study["grid"]["algorithm.inner_lr"]):
                for seed in study["seeds"]:
                    pretend(Path(words[-1]) / "trials" / f"{number:04}" / f"seed-{seed}", size, seed)
        return _Cost(4.0, 8.0)

    def pretend(run_dir: Path, size: float | str, seed: int | str) -> None:
        run_dir.mkdir(parents=True)
        (run_dir / "setting").write_text(f"{size} {seed}")

    def load(run_dir: Path) -> SimpleNamespace:
        size, seed = (run_dir / "setting").read_text().split()
        algorithm = SimpleNamespace(model_dump=lambda: {"inner_lr": float(size)})
        weight = np.array([100 * float(size) + int(seed), 4.0 if run_dir.name == "0-0.4-3" else 3.0])
        if run_dir.name == "alone-1":
            weight[0] = np.nextafter(weight[0], 0)
        return SimpleNamespace(config=SimpleNamespace(algorithm=algorithm, seed=int(seed)), params={"w": weight})

    monkeypatch.setattr(scaling, "_timed", timed)
    monkeypatch.setattr(scaling, "load", load)
    measured = measure(scaling.LANES, rounds=1)
    assert [words[0] for words in calls] == [*["train"] * 16, "sweep", *["train"] * 5]
    assert len({words[3:5] for words in calls[:16]}) == 16
    assert all(words[3:5] == ("--devices", "1") for words in calls[17:])
    assert measured["one"] == {"seconds": 16.0, "cpu_seconds": 32.0}
    assert measured["other"] == {"seconds": 4.0, "cpu_seconds": 8.0}
    assert measured["difference"] == pytest.approx(1 / np.hypot(43, 3))
    assert (measured["are_same"], measured["compared"]) == (3, 4)


def test_the_script_writes_a_page(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    cost = {"seconds": 2.0, "cpu_seconds": 2.0}
    measured = {
        "what": "metarl train x",
        "unit": "an update",
        "one": cost,
        "other": {"seconds": 1.0, "cpu_seconds": 2.2},
        "crowded": {"runs": 2, "seconds": 2.5},
        "difference": 2e-5,
        "are_same": 3,
        "compared": 4,
    }
    monkeypatch.setattr(
        scaling, "measure", lambda case, rounds: {**measured, "rounds": rounds, "cores": 2, "jax": "0.10.2"}
    )
    monkeypatch.setattr(sys, "argv", ["scaling.py", "--cases", "16 runs", "--rounds", "1"])
    runpy.run_path(str(ROOT / "benchmarks" / "scaling.py"), run_name="__main__")
    assert capsys.readouterr().out.startswith("16 runs {'what'")
    page = (tmp_path / "benchmarks/results/scaling.md").read_text()
    assert (
        "| 16 runs | `metarl train x` | an update | 2.00 | 2.00 | 1.00 | 2.20 | 2.00 | 1.60 | 1.10 | 1 | 2 | 0.10.2 |"
        in page
    )
    assert "16 runs: parameters of a run apart" in page
    assert "Of 4 seeds trained on one core 3 have the same" in page
