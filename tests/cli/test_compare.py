"""``metarl compare``: runs are compared once, the second time nothing is measured again; what is missing is trained."""

import json
from pathlib import Path

import pytest
import typer

from metarl_jax.checks import Refusal
from metarl_jax.cli.compare import compare
from metarl_jax.studies.compare import measures, training
from tests.comparisons import MAML, config_of, write_run
from tests.helpers import start, write_config

FILES = ("comparison.json", "comparison.csv", "comparison.tex", "comparison.png", "improvement.csv", "costs.json")


@pytest.mark.slow
def test_a_run_is_measured_once_and_the_files_are_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = tmp_path / "run", tmp_path / "out"
    start(run)
    compare([str(run)], output=out)
    printed = capsys.readouterr().out
    first = [(out / name).read_bytes() for name in FILES]
    result = json.loads(first[0])
    steps = result["methods"]["promp"]["runs"]["3"]
    assert steps == {"directory": str(run), "iteration": 6, "env_steps": 720}
    assert result["references"]["held_out"]["oracle_is"] == "optimum"
    cost = result["methods"]["promp"]["cost"]
    assert cost["seconds"] > 0
    assert cost["flops"] > 1e6
    assert cost["memory_bytes"] > 1000
    assert "at 720 environment steps" in printed
    monkeypatch.setattr(measures, "make_evaluation", None)
    monkeypatch.setattr(measures, "compile_update", None)
    compare([str(run)], output=out)
    assert [(out / name).read_bytes() for name in FILES] == first


def test_configs_are_trained_as_far_as_they_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second config has its runs; of the first, one is missing, and the command that trains it is stopped."""
    config, asked = str(write_config(tmp_path)), []

    def train(words: list[str], stop_requested: object) -> int:
        asked.append(words)
        return 15

    monkeypatch.setattr(training, "train", train)
    done = tmp_path / "all" / "tiny_algorithm.inner_lr=0.5"
    for seed in (3, 4):
        write_run(done / f"seed-{seed}", config_of(MAML, seed=seed), {6: 720})
    with pytest.raises(typer.Exit) as ended:
        compare([config, "algorithm.inner_lr=0.5", config], seeds=2, env_steps=720.0, directory=tmp_path / "all")
    assert ended.value.exit_code == 143
    (words,) = asked
    assert words[words.index("--run-dir") + 1] == str(tmp_path / "all" / "tiny")


def test_runs_and_configs_are_not_mixed(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"is trained and .*tiny.yaml is not"):
        compare([str(tmp_path), str(write_config(tmp_path))])
