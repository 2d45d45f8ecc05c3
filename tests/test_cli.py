"""The command: what it prints and writes, and how it refuses."""

import errno
import gzip
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from metarl_jax.algorithms import ppo_maml
from metarl_jax.cli import main
from metarl_jax.cli.catalogue import list_
from metarl_jax.cli.evaluate import evaluate_run
from metarl_jax.config import ConfigError
from metarl_jax.config.source import known_configs
from tests.helpers import TINY, metarl, write_config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    done = metarl("train", write_config(folder), "--run-dir", folder / "run", "--evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"run directory: {folder / 'run'}"
    assert "Warning" not in done.stderr
    return folder / "run"


class Ended(NamedTuple):
    code: object
    out: str
    err: str


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ended]:
    """``metarl`` in an empty folder and in this process, which spares it most of a start."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")  # there are no more, and none can be added

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["metarl", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        return Ended(ended.value.code, *capsys.readouterr())

    return run


def test_training_writes_what_it_promises(run_dir: Path) -> None:
    assert {"config.yaml", "metrics.jsonl", "checkpoints", "tensorboard", "training.png"} <= {
        path.name for path in run_dir.iterdir()
    }
    assert (run_dir / "training.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_after_training_writes_numbers_and_picture(run_dir: Path) -> None:
    assert json.loads((run_dir / "evaluation.json").read_text())["settings"]["num_tasks"] == 3
    assert (run_dir / "adaptation.png").read_bytes().startswith(b"\x89PNG")


def test_evaluate_options_reach_the_evaluation(run_dir: Path) -> None:
    usual = (run_dir / "evaluation.json").read_bytes()
    done = metarl(
        *("evaluate", run_dir, "--tasks", 2, "--steps", 1, "--episodes", 4, "--seed", 9),
        *("--step-size-rule", "finn", "--checkpoint", "best", "--distribution", "beyond"),
    )
    assert done.returncode == 0, done.stderr
    settings = "beyond_tasks2_steps1_episodes4_finn_seed9_best"
    result = json.loads((run_dir / f"evaluation_{settings}.json").read_text())
    assert "2 tasks beyond the training distribution" in done.stdout
    assert (run_dir / f"adaptation_{settings}.png").exists()
    assert result["gradient_steps"] == [0, 1]
    assert result["settings"] == {
        "num_tasks": 2,
        "num_inner_steps": 1,
        "episodes_per_task": 4,
        "step_size_rule": "finn",
        "distribution": "beyond",
        "seed": 9,
        "test_policy": "stochastic",
        "num_different_tasks": None,
        "adaptation": "gradient steps",
        "step_sizes": [0.1],
    }
    assert (run_dir / "evaluation.json").read_bytes() == usual  # a smaller one does not take a larger one's place
    assert re.search(r"\n +1 +-\d+\.\d+ \[-\d+\.\d+, -\d+\.\d+\]", done.stdout)
    assert (result["checkpoint"] in (2, 4, 6), result["num_iterations"]) == (True, 6)
    assert (f"at iteration {result['checkpoint']} of 6" in done.stdout) == (result["checkpoint"] < 6)


def test_the_table_is_printed_where_nothing_can_be_written(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name for path in run_dir.iterdir()}
    few = {"num_tasks": 2, "num_inner_steps": 0, "seed": 4}
    evaluate_run(run_dir, "latest", few, output=tmp_path / "mine" / "numbers.json")
    assert json.loads((tmp_path / "mine" / "numbers.json").read_text())["settings"]["seed"] == 4
    assert (tmp_path / "mine" / "numbers.png").exists()
    table = capsys.readouterr().out.partition("numbers:")[0]

    def read_only(path: Path, text: str) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("metarl_jax.tracking.files.write_atomically", read_only)
    evaluate_run(run_dir, "latest", few)
    printed = capsys.readouterr()
    assert printed.out == table
    assert "evaluation_tasks2_steps0_seed4.json: Read-only file system" in printed.err
    assert "--output" in printed.err
    with pytest.raises(OSError, match="Read-only"):  # what was asked for by name must be there in the end
        evaluate_run(run_dir, "latest", few, output=tmp_path)
    assert capsys.readouterr().out == table
    assert {path.name for path in run_dir.iterdir()} == before


@pytest.mark.slow
def test_default_run_directory_is_numbered_and_resumed(tmp_path: Path, command: Callable[..., Ended]) -> None:
    config = write_config(tmp_path)
    short = ("train", config, "training.num_iterations=1")
    first, second = command(*short, "--resume-if-exists"), command(*short)
    assert first.out.startswith("run directory: runs/tiny\n")
    assert second.out.startswith("run directory: runs/tiny-2\n")
    resumed = command("train", config, "training.num_iterations=2", "--resume")
    assert resumed.out.startswith("run directory: runs/tiny-2\n")
    assert "finished 2 iterations" in resumed.out
    queued_again = command("train", config, "training.num_iterations=2", "--resume-if-exists")
    assert queued_again.out.startswith("run directory: runs/tiny\n")
    assert "finished 2 iterations" in queued_again.out


@pytest.mark.slow
def test_check_gradients_prints_a_table_and_draws(tmp_path: Path, command: Callable[..., Ended]) -> None:
    done = command("check-gradients", "--estimator", "likelihood_ratio", "--samples", 10, "--repeats", 5)
    assert done.code == 0, done.err
    assert re.search(r"\nlikelihood_ratio +10 +0\.\d+ ", done.out)
    assert (tmp_path / "gradients.png").read_bytes().startswith(b"\x89PNG")
    refused = command("check-gradients", "--estimator", "lvc")
    assert (refused.code, "must be a list of any of log_likelihood" in refused.err) == (2, True)


@pytest.mark.slow
def test_benchmark_prints_a_table_and_json(tmp_path: Path) -> None:
    plain = write_config(tmp_path, {"name": "pretraining"})  # does not adapt in training: one stage, no inner part
    more = ("--sweep", "--minutes", 0, "--profile", "trace", "--turns", "lock")
    table = metarl("benchmark", plain, "--iterations", 2, *more, cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    for word in ("rollout", "physics", "outer", "CPU seconds", "compilation", "env steps per second", "cut short"):
        assert word in table.stdout
    assert re.search(r"^inner +~?0\.0+ +0\.0+$", table.stdout, flags=re.MULTILINE)
    assert "adaptations per second" not in table.stdout
    updates, steps = (
        re.findall(rf"^{rate} per second +([\d.,]+)", table.stdout, flags=re.M)[0]
        for rate in ("meta-iterations", "env steps")
    )
    taken = float(steps.replace(",", "")) / float(updates.replace(",", ""))
    assert taken == pytest.approx(4 * 3 * 5, rel=0.01), "both are rounded"
    trace = tmp_path / re.findall(r"trace, for ui.perfetto.dev: (.*)", table.stdout)[0]
    with gzip.open(trace, "rt") as file:
        assert "meta-iteration" in {event.get("name") for event in json.load(file)["traceEvents"]}

    config = write_config(tmp_path)
    done = metarl("benchmark", config, "--iterations", 2, "--json", "--picture", "speed.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "speed.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads(done.stdout)
    assert result["decided"] == {}  # a CPU's chunks follow from its cache
    parts = result["per_iteration"]
    assert all(seconds >= 0.0 for part in parts.values() for seconds in part.values())
    assert result["env_steps_per_iteration"] == 4 * 3 * 5 * 2
    assert result["meta_iterations_per_second"] == pytest.approx(1 / parts["total"]["seconds"])
    derivatives = result["derivatives"]
    positive = result["efficiency"], result["adaptations_per_second"], result["peak_bytes"] - result["memory_bytes"]
    assert min(*positive, derivatives["hvp_over_gradient"], derivatives["second_over_first_order"]) > 0.0
    work, rate, peak = (result["achieved"][key] for key in ("per_second", "of_peak", "peak_per_second"))
    assert rate == pytest.approx({part: work[part] / peak[part] for part in ("products", "other_operations", "bytes")})


def test_list_names_everything_in_lines_that_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    list_()
    printed = capsys.readouterr().out
    for name in ("maml", "trpo_maml", "promp", "navigation_finn", "half_cheetah_velocity", "mlp"):
        assert re.search(rf"^  {name}\b", printed, flags=re.MULTILINE)
    assert "  anil_navigation         ANIL (Raghu et al., 2020): only the last layer adapts.\n" in printed
    assert "MAML-PPO: maml with several" in printed  # no marks of reStructuredText
    assert max(map(len, printed.splitlines())) <= 80
    words = (ppo_maml.__doc__ or "").split("\n\n")[0].split()[2:]
    assert " ".join(words) in " ".join(printed.split())  # no word is cut in two
    (tmp_path / "mine.yaml").write_text("# My own.\nseed: 1\n")
    list_(folder=tmp_path)
    assert capsys.readouterr().out.endswith(f"configs (in {tmp_path}):\n  mine{' ' * 20}My own.\n")


def test_list_copies_a_config_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    list_(copy="quickstart")
    copied = tmp_path / "quickstart.yaml"
    assert capsys.readouterr().out == f"copied to {copied}; train it with:\n  metarl train quickstart.yaml\n"
    assert copied.read_bytes() == known_configs()["quickstart"].read_bytes()
    copied.write_text("# mine")
    with pytest.raises(ConfigError, match=r"quickstart\.yaml exists; rename or remove it first"):
        list_(copy="quickstart.yaml")
    assert copied.read_text() == "# mine"
    with pytest.raises(ConfigError, match="shows no such config; did you mean 'rl2_bandit'"):
        list_(copy="rl2_bandits")


@pytest.mark.slow
def test_a_config_goes_by_its_name(command: Callable[..., Ended]) -> None:
    small = ("tasks.horizon=3", "policy.hidden_sizes=[4]", "training.meta_batch_size=5", "training.num_iterations=1")
    assert command("train", "quickstart", *small).out.startswith("run directory: runs/quickstart\n")


@pytest.mark.slow
def test_version_and_help(command: Callable[..., Ended]) -> None:
    assert metarl("--version").stdout.startswith("metarl 0.")
    assert "143 by SIGTERM" in " ".join(command("train", "--help").out.replace("│", "").split())
    for words in ((), ("resume",), ("evaluate",), ("render",), ("benchmark",), ("list",)):
        assert "Usage" in command(*words, "--help").out


MISTAKES = [
    (("train", "nowhere.yaml"), "no such file"),
    (("train", "CONFIG", "algorithm.inner_lr=-0.1"), "algorithm.inner_lr: must be at least 0 (got -0.1)"),
    (("train", "CONFIG", "algorithm.inner_rl=0.1"), "did you mean 'inner_lr'"),
    (("train", "CONFIG", "algorithm.inner_lr=.nan"), "algorithm.inner_lr"),
    (("train", "CONFIG", "algorithm.inner_lr=[0.1, 0.2, 0.3]"), "one for each of the 1 inner steps"),
    (("train", "CONFIG", "algorithm.baseline=critic"), "policy.critic_hidden_sizes"),
    (("train", "CONFIG", "tasks.horizon=0"), "tasks.horizon: must be greater than 0 (got 0)"),
    (("train", "CONFIG", "--run-dir", "RUN", "--resume", "--overwrite"), "give one of them"),
    (("train", "CONFIG", "--resume-if-exists", "--overwrite"), "three ways to start: give one of them"),
    (("train", "CONFIG", "--resume"), "nothing to resume"),
    (("resume", "RUN", "algorithm.inner_lr=0.3"), "algorithm.inner_lr: 0.3 now, 0.1 in the run"),
    (("train", "CONFIG", "--run-dir", "UNDER A FILE"), "choose another folder"),
    (("evaluate", "nowhere"), "holds no run"),
    (("evaluate", "RUN", "--tasks", 0), "'--tasks'"),
    (("evaluate", "RUN", "--checkpoint", "newest"), "'latest', 'best' or an iteration"),
    (("evaluate", "RUN", "--checkpoint", 5), "choose one of"),
    (("render", "RUN", "--task", "left"), "--task left: give numbers separated by commas"),
    (("train", "CONFIG", "--run-dir", "RUN"), "already holds a run"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[mistake[1] for mistake in MISTAKES])
def test_mistakes_get_one_message_and_exit_code_2(
    run_dir: Path, tmp_path: Path, command: Callable[..., Ended], arguments: tuple, message: str
) -> None:
    config = str(write_config(tmp_path))
    names = {"CONFIG": config, "RUN": str(run_dir), "UNDER A FILE": f"{config}/run"}
    done = command(*(names.get(str(argument), argument) for argument in arguments))
    assert done.code == 2, done
    assert message in " ".join(done.err.split())
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("algorithm", "impossible"),
    [({"name": "promp"}, "algorithm.inner_lr=[0.1, 0.2]"), ({"name": "trpo_maml"}, "algorithm.curvature_every=3")],
)
@pytest.mark.slow
def test_a_config_that_cannot_work_deletes_nothing_and_leaves_nothing(
    run_dir: Path, command: Callable[..., Ended], algorithm: dict, impossible: str
) -> None:
    """What only building, or tracing, finds out is found out before a directory is touched."""
    config = write_config(run_dir.parent, algorithm)
    for directory in (run_dir, run_dir.parent / "new"):
        done = command("train", config, impossible, "--run-dir", directory, "--overwrite")
        assert done.code == 2, done
        assert impossible.partition("=")[0] in done.err
    assert (run_dir / "checkpoints" / "6").is_dir()
    assert not (run_dir.parent / "new").exists()


def test_the_tiny_config_is_what_the_tests_say_it_is(run_dir: Path) -> None:
    assert f"num_iterations: {TINY['training']['num_iterations']}" in (run_dir / "config.yaml").read_text()
