"""The templates in examples/cluster, as far as a machine without a cluster can tell.

Not tested, for SkyPilot brings much with it: its version 0.14.1 reads ``sky.Task.from_yaml("skypilot.yaml")``.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest
import typer
import yaml
from kubeflow_trainer_api import models

from metarl_jax.cli import COMMANDS, app
from metarl_jax.runs.cluster import Job, find_job

TEMPLATES = Path(__file__).resolve().parents[1] / "examples" / "cluster"
RECORDS = '#!/bin/bash\nprintf "%s\\n" "$(basename $0)" "$@" JAX_NUM_PROCESSES=$JAX_NUM_PROCESSES '
RECORDS += "JAX_PROCESS_ID=$JAX_PROCESS_ID JAX_COORDINATOR_ADDRESS=$JAX_COORDINATOR_ADDRESS >> $RECORD\n"
SRUN = '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\n"$@"\nexit $CODE\n'


def run_script(folder: Path, script: str | Path, *arguments: str, **variables: str) -> tuple[int, list[str], dict]:
    """Run a script with stand-ins for what it calls: its exit code, the words of its calls, what is set for them."""
    for name, text in {"metarl": RECORDS, "scontrol": RECORDS, "srun": SRUN}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    record = folder / "record"
    done = subprocess.run(
        ["bash", *(["-c"] if isinstance(script, str) else []), script, *arguments],
        env={"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(record), "CODE": "0"} | variables,
        cwd=folder,
    )
    lines = record.read_text().splitlines()
    settings = dict(line.split("=", 1) for line in lines if line.startswith("JAX_"))
    return done.returncode, [line for line in lines if not line.startswith("JAX_")], settings


def check_command(words: list[str]) -> dict:
    """Hold a command of ours against its options, without running it: its parameters."""
    name, *arguments = words[1:]
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    return command.make_context(name, arguments).params


@pytest.mark.parametrize(("code", "is_requeued"), [(0, False), (2, False), (75, True), (143, True)])
def test_slurm_trains_and_is_queued_again(tmp_path: Path, code: int, is_requeued: bool) -> None:
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "metarl", "CODE": str(code)}
    ended, words, _ = run_script(tmp_path, TEMPLATES / "slurm_train.sbatch", "quickstart", "seed=2", **job)
    assert ended == code
    assert words[9:] == (["scontrol", "requeue", "17"] if is_requeued else [])
    asked = check_command(words[:9])
    assert asked["overrides"] == ["seed=2"]
    assert asked["run_dir"] == tmp_path / "runs" / "metarl-17"
    assert asked["resume_if_exists"]
    assert asked["distributed"] == "auto"


def test_slurm_gives_up_in_the_end(tmp_path: Path) -> None:
    job = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "metarl", "CODE": "75", "SLURM_RESTART_COUNT": "50"}
    _, words, _ = run_script(tmp_path, TEMPLATES / "slurm_train.sbatch", **job)
    assert "scontrol" not in words


def test_slurm_starts_workers_of_a_sweep(tmp_path: Path) -> None:
    _, words, _ = run_script(tmp_path, TEMPLATES / "slurm_sweep.sbatch", "mine.yaml", SLURM_JOB_ID="17")
    assert words == ["metarl", "sweep", "mine.yaml", "--worker"]
    if "sweep" in COMMANDS:
        (tmp_path / "mine.yaml").touch()
        check_command(words)


def test_skypilot_says_which_process_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = yaml.safe_load((TEMPLATES / "skypilot.yaml").read_text())
    node = {"SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.5", "SKYPILOT_NUM_NODES": "2", "SKYPILOT_NODE_RANK": "1"}
    _, words, settings = run_script(tmp_path, task["run"], **node, **task["envs"])
    assert check_command(words)["run_dir"] == Path("/runs/quickstart")
    assert set(task["volumes"]) == {"/runs"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert find_job("auto", None, None, None) == Job("10.0.0.4:7777", 2, 1)


def test_kubernetes_says_which_process_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    service, job = yaml.safe_load_all((TEMPLATES / "kubernetes_job.yaml").read_text())
    pods = job["spec"]["template"]["spec"]
    (container,) = pods["containers"]
    check_pods(pods, container, "metarl", job["spec"]["podFailurePolicy"])
    assert check_command(["metarl", *container["command"][1:], *container["args"]])["distributed"] == "auto"
    assert job["spec"]["completions"] == job["spec"]["parallelism"]
    assert service["metadata"]["name"] == pods["subdomain"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    for variable in container["env"]:
        if "valueFrom" in variable:
            assert variable["valueFrom"] == {"fieldRef": {"fieldPath": index}}
        monkeypatch.setenv(variable["name"], variable.get("value", "1"))
    assert find_job("auto", None, None, None) == Job("metarl-0.metarl:7777", job["spec"]["completions"], 1)


def test_kubeflow_trains_with_the_runtime_beside_it() -> None:
    runtime, job = yaml.safe_load_all((TEMPLATES / "kubeflow_trainjob.yaml").read_text())
    assert runtime["spec"]["mlPolicy"] == {"numNodes": 2, "jax": {}}
    assert job["spec"]["runtimeRef"]["kind"] == runtime["kind"]
    assert job["spec"]["runtimeRef"]["name"] == runtime["metadata"]["name"]
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pods = node["template"]["spec"]["template"]["spec"]
    (container,) = pods["containers"]
    check_pods(pods, container, "node", node["template"]["spec"]["podFailurePolicy"])
    trainer = job["spec"]["trainer"]
    assert check_command(["metarl", *trainer["command"][1:], *trainer["args"]])["distributed"] == "auto"


SCHEMAS = {
    ("v1", "Service"): models.IoK8sApiCoreV1Service,
    ("batch/v1", "Job"): models.IoK8sApiBatchV1Job,
    ("trainer.kubeflow.org/v1alpha1", "TrainingRuntime"): models.TrainerV1alpha1TrainingRuntime,
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): models.TrainerV1alpha1TrainJob,
}


@pytest.mark.parametrize("template", ["kubernetes_job", "kubeflow_trainjob"])
def test_templates_say_only_what_published_schemas_know(template: str) -> None:
    for resource in yaml.safe_load_all((TEMPLATES / f"{template}.yaml").read_text()):
        known = SCHEMAS[resource["apiVersion"], resource["kind"]].from_dict(resource).to_dict()
        assert known == resource


def check_pods(pods: dict, container: dict, name: str, policy: dict) -> None:
    """What both ways to run on Kubernetes must agree on within themselves."""
    assert pods["restartPolicy"] == "Never"  # which podFailurePolicy asks for
    assert container["name"] == name
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pods["volumes"]}
    (rule,) = policy["rules"]
    assert rule["onExitCodes"] == {"containerName": name, "operator": "In", "values": [2]}


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda path: path.name)
def test_templates_name_no_image_and_no_registry(template: Path) -> None:
    images = re.findall(r"^\s*image: (.*)$", template.read_text(), re.MULTILINE)
    assert set(images) <= {"${METARL_IMAGE}"}
    if template.suffix == ".sbatch":
        assert subprocess.run(["bash", "-n", template]).returncode == 0
