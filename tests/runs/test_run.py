"""Run directories: loading a run, default names, refusals."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import jax
import numpy as np
import pytest

import metarl_jax as mrl
from metarl_jax.config import ConfigError, config_from_dict, load_config
from metarl_jax.runs.build import build
from metarl_jax.runs.run import choose_directory, prepare_directory, read_config
from metarl_jax.runs.training import train
from metarl_jax.tracking.jsonl import read_metrics
from tests.helpers import TINY, tiny_config


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run"
    config = tiny_config(training={"num_iterations": 4})
    prepare_directory(directory, config, False, False)
    train(build(config), directory, devices=jax.devices()[:1])
    return directory


def test_a_loaded_run_adapts_to_a_new_task_in_three_lines(run_dir: Path) -> None:
    run = mrl.load(run_dir)
    task = run.family.sample(jax.random.key(1))
    agent, info = jax.jit(run.algorithm.adapt)(run.params, task, jax.random.key(2))
    assert run.iteration == 4
    assert info["return"].shape == (2, 3)
    assert not np.array_equal(agent.params["log_std"], run.params["log_std"])


def test_which_checkpoint(run_dir: Path) -> None:
    assert mrl.load(run_dir, 2).iteration == 2
    post = [row["return_post"] for row in read_metrics(run_dir)]
    assert mrl.load(run_dir, "best").iteration == (2 if sum(post[:2]) > sum(post[2:]) else 4)


def test_loading_nothing_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give the folder that training printed"):
        mrl.load(tmp_path)
    for seed in (1, 2):
        prepare_directory(tmp_path / f"seed-{seed}", tiny_config(seed=seed), False, False)
    with pytest.raises(ConfigError, match=r"holds 2 runs: give one of them, such as .*seed-1$"):
        mrl.load(tmp_path)


def test_a_run_of_an_older_version_is_read_with_the_names_of_today(tmp_path: Path) -> None:
    policy = {"name": "recurrent", "memory": "lstm", "heads": "plain"}
    config = config_from_dict({**TINY, "policy": policy, "algorithm": {"name": "rl2"}})
    prepare_directory(tmp_path / "run", config, False, False)
    file = tmp_path / "run" / "config.yaml"
    old = file.read_text().replace("  memory: lstm", "  cell: lstm").replace("  heads: plain", "  hypernetwork: false")
    file.write_text(old)
    assert read_config(tmp_path / "run") == config
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    for key, today in (("cell", "memory"), ("hypernetwork", "heads")):
        told = f"policy.{key}: unknown key of policy 'recurrent'; it is called policy.{today} now; valid keys: "
        assert told in str(caught.value)


def test_a_hypernetwork_of_an_older_version_is_refused_before_its_checkpoint_is_read(tmp_path: Path) -> None:
    config = config_from_dict({**TINY, "policy": {"name": "recurrent"}, "algorithm": {"name": "rl2"}})
    prepare_directory(tmp_path / "run", config, False, False)
    file = tmp_path / "run" / "config.yaml"
    file.write_text(file.read_text().replace("  heads: plain", "  hypernetwork: true"))
    (tmp_path / "run" / "checkpoints").mkdir()
    reason = rf"{file}: policy\.hypernetwork = True: .* laid out otherwise.* provenance\.jsonl .* names its commit"
    for read in (read_config, mrl.load):
        with pytest.raises(ConfigError, match=reason):
            read(tmp_path / "run")


def test_a_folder_with_other_things_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match="is not a run"):
            prepare_directory(tmp_path, tiny_config(), False, overwrite)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_default_directory(tmp_path: Path) -> None:
    config = tiny_config(logging={"run_root": str(tmp_path / "runs")})
    assert choose_directory(config, "name", resume=False) == tmp_path / "runs" / "name"
    with pytest.raises(ConfigError, match="nothing to resume"):
        choose_directory(config, "name", resume=True)
    prepare_directory(tmp_path / "runs" / "name", config, False, False)
    assert choose_directory(config, "name", resume=False) == tmp_path / "runs" / "name-2"
    assert choose_directory(config, "name", resume=True) == tmp_path / "runs" / "name"
    assert choose_directory(config, "name", resume=False) == tmp_path / "runs" / "name-3"  # the second is taken


def test_starts_at_the_same_moment_get_a_directory_each(tmp_path: Path) -> None:
    together = Barrier(16)

    def start(root: Path) -> Path:
        config = tiny_config(logging={"run_root": str(root)})
        together.wait()
        directory = choose_directory(config, "name", resume=False)
        prepare_directory(directory, config, False, False)
        return directory

    with ThreadPoolExecutor(16) as pool:
        for trial in range(10):
            assert len(set(pool.map(start, [tmp_path / str(trial)] * 16))) == 16
