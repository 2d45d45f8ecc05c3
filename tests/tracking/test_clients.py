"""The real clients, offline or with a local store: one run of two sittings, its group, config, pictures and numbers.

Each needs its extra, of which ``dev`` has none; a test is left out where its client is.
"""

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from metarl_jax.tracking import TRACKERS
from metarl_jax.tracking.base import Artifact, TrackedRun, Tracker
from metarl_jax.tracking.follow import following
from tests.helpers import EVALUATION

pytestmark = pytest.mark.slow
TABLE = [[0, -40.0, -42.5, -37.0], [1, -11.25, -12.0, -10.0]]


def row(iteration: int) -> dict[str, Any]:
    return {"iteration": iteration, "env_steps": 60 * iteration, "loss": None, "inner_kl": [iteration / 2, 0.25]}


def track_two_runs(folder: Path, make: Callable[[], Tracker], warn: Callable[[str], object] = pytest.fail) -> None:
    """Seeds 3 and 4 at once; rows 1 to 3, and from an earlier checkpoint 3 and 4, then what the runs left."""
    left = [Artifact("picture", folder / "training.png"), Artifact("evaluation", folder / "evaluation.json")]
    Image.new("RGB", (4, 4)).save(left[0].path)
    left[1].path.write_text(json.dumps(EVALUATION))
    (folder / "4").mkdir()
    (folder / "4" / "state").write_text("numbers")
    left.append(Artifact("checkpoint", folder / "4"))
    runs = []
    for seed, id_ in ((3, "1a2b3c"), (4, "9f8e7d")):
        (folder / f"seed-{seed}").mkdir()
        config = {"seed": seed, "tasks": {"name": "x"}, "policy": {"hidden_sizes": [4, 4]}}
        runs.append(TrackedRun(folder / f"seed-{seed}", 0, id_, f"both/seed-{seed}", "both", config))
    for begins, rows in ((0, (1, 2, 3)), (2, (3, 4))):
        with ExitStack() as opened:
            tells = [
                opened.enter_context(following({"it": make()}, run._replace(iteration=begins), warn)) for run in runs
            ]
            for iteration in rows:
                for tell in tells:
                    tell(row(iteration))
            for artifact in left if begins else ():
                tells[0](artifact)


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    track_two_runs(tmp_path, lambda: TRACKERS["wandb"](project="p", mode="offline", tags=("t",)))
    wandb.teardown()  # its service writes on after a run is finished, until it ends
    sittings = sorted((tmp_path / "seed-3" / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(sittings) == 2
    records = [record for file in sittings for record in wandb_records(file.read_bytes())]
    (run, again) = [record.run for record in records if record.HasField("run")]
    assert {(each.run_id, each.run_group, each.display_name, each.project) for each in (run, again)} == {
        ("1a2b3c", "both", "both/seed-3", "p")
    }
    assert {item.key: json.loads(item.value_json) for item in run.config.update}["tasks"] == {"name": "x"}
    rows = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    metrics = [[each["iteration"], each["env_steps"], each["inner_kl/0"]] for each in rows if "iteration" in each]
    assert metrics == [[i, 60 * i, i / 2] for i in (1, 2, 3, 4)]
    assert all("loss" not in each for each in rows)
    axes = {record.metric.glob_name: record.metric.step_metric for record in records if record.HasField("metric")}
    assert axes["*"] == "env_steps"
    left = [record.request.log_artifact if record.HasField("request") else record.artifact for record in records]
    assert {"1a2b3c-training", "1a2b3c-evaluation", "1a2b3c-checkpoint"} <= {each.name for each in left}
    shown = {key: value for each in rows for key, value in each.items() if key.endswith("/_type")}
    assert shown == {"training/_type": "image-file", "evaluation/_type": "table-file"}
    assert all("env_steps" not in each for each in rows if "training/_type" in each)


def wandb_records(content: bytes) -> Iterator[Any]:
    """The records of an offline run: LevelDB's log, blocks of 32 KiB, of pieces with checksum, length and kind."""
    from wandb.proto.wandb_internal_pb2 import Record

    assert content[:4] == b":W&B"
    place, record = 7, b""
    while place < len(content):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(record)
            record = b""


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated")  # of SQLAlchemy, that MLflow uses
def test_mlflow_with_a_local_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.chdir(tmp_path)  # where it puts its artifacts
    store = f"sqlite:///{tmp_path}/mlflow.db"
    track_two_runs(tmp_path, lambda: TRACKERS["mlflow"](experiment="e", tracking_uri=store))
    client = mlflow.MlflowClient(store)
    runs = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert {run.data.params["seed"] for run in runs} == {"3", "4"}
    (run,) = (run for run in runs if run.data.params["seed"] == "3")
    assert (run.info.run_name, run.info.status, run.data.tags["group"]) == ("both/seed-3", "FINISHED", "both")
    assert (run.data.params["tasks.name"], run.data.params["policy.hidden_sizes"]) == ("x", "[4, 4]")
    for name, scale in (("env_steps", 60), ("inner_kl/0", 0.5)):
        history = client.get_metric_history(run.info.run_id, name)
        assert [(each.step, each.value) for each in history] == [(i, scale * i) for i in (1, 2, 3, 4)]
    assert "loss" not in run.data.metrics
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"training.png", "evaluation.json"}
    assert run.data.tags["checkpoint"] == str(tmp_path / "4")


def test_trackio_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "store"))  # which is read when it is imported
    pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    track_two_runs(tmp_path, lambda: TRACKERS["trackio"](project="p"))
    name = "both/seed-3-1a2b3c"
    assert set(SQLiteStorage.get_runs("p")) == {name, "both/seed-4-9f8e7d"}
    config = SQLiteStorage.get_run_config("p", name)
    assert (config["seed"], config["tasks.name"], config["_Group"]) == (3, "x", "both")
    rows = SQLiteStorage.get_logs("p", name)
    metrics = [[each["step"], each["env_steps"], each["inner_kl/0"]] for each in rows if "env_steps" in each]
    assert metrics == [[i, 60 * i, i / 2] for i in (1, 2, 3, 4)]
    shown = {key: each[key]["_type"] for each in rows for key in ("training", "evaluation") if key in each}
    assert shown == {"training": "trackio.image", "evaluation": "trackio.table"}
    assert len(SQLiteStorage.get_artifacts("p")) == 3
