"""What a process's environment says about the others."""

import os
import re

import pytest

from metarl_jax.config import ConfigError
from metarl_jax.runs.cluster import Job, find_job

SLURM = {
    "SLURM_JOB_ID": "5000",
    "SLURM_STEP_NODELIST": "gpu[07-08],gpu12",
    "SLURM_NTASKS": "12",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}
OPEN_MPI = {"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}
OPEN_MPI_4 = OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "4096000.0;tcp://10.0.0.1,10.1.0.1:34911"}
KUBEFLOW = {
    "KUBERNETES_SERVICE_HOST": "10.0.0.1",
    "JAX_COORDINATOR_ADDRESS": "run-node-0-0.run:29500",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}


@pytest.fixture
def describe(monkeypatch: pytest.MonkeyPatch):
    """Make the environment describe this job, and no other."""
    for name in os.environ:
        if re.match("SLURM_|OMPI_|JAX_(COORDINATOR|NUM_PROCESSES|PROCESS_ID)|KUBERNETES_|JOB_|TPU_|MEGASCALE_", name):
            monkeypatch.delenv(name)

    def describe(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return describe


@pytest.mark.parametrize(
    ("variables", "job"),
    [
        ({}, None),
        (SLURM, Job("gpu07:62344", 12, 5, 1)),
        (SLURM | {"JAX_COORDINATOR_ADDRESS": "gpu07:7777"}, Job("gpu07:7777", 12, 5, 1)),
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "5000", "SLURM_NTASKS": "12"}, None),  # a job's script, outside srun
        (OPEN_MPI_4, Job("10.0.0.1:62440", 3, 2, 0)),
        (SLURM | OPEN_MPI_4, Job("10.0.0.1:62440", 3, 2, 0)),  # mpirun within a job of Slurm
        (OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "head:7777"}, Job("head:7777", 3, 2, 0)),
        (KUBEFLOW, Job("run-node-0-0.run:29500", 4, 3)),
        (KUBEFLOW | {"JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a pod that is no job, as a notebook's
    ],
)
def test_a_job_is_found_in_the_environment(describe, variables: dict[str, str], job: Job | None) -> None:
    describe(variables)
    assert find_job("auto", None, None, None) == job
    assert find_job("off", None, None, None) is None


def test_two_slices_of_a_tpu_pod(describe, monkeypatch: pytest.MonkeyPatch) -> None:
    """As its environment describes the second host of the second one; each process takes all chips of its host."""
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    hosts = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost,10.0.0.2", "TPU_WORKER_ID": "1"}
    slices = {"MEGASCALE_COORDINATOR_ADDRESS": "localhost", "MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1"}
    describe(hosts | slices | {"JAX_COORDINATOR_PORT": "7777"})
    assert find_job("auto", None, None, None) == Job("localhost:7777", 4, 3)


@pytest.mark.parametrize(
    ("variables", "options", "remedy"),
    [
        ({}, ("on", None, None, None), "no Slurm, Open MPI, Kubernetes or TPU job was found"),
        ({}, ("off", None, 2, 0), "need --coordinator HOST:PORT"),
        ({}, ("off", "head:7777", 2, None), "needs --num-processes and --process-id"),
        ({}, ("off", "head", 2, 0), "coordinator head: give the first process's HOST:PORT"),
        ({}, ("off", "head:7777", 2, 2), "process 2 of 2: they are numbered from 0"),
        ({}, ("auto", "head:7777", 2, 0), "give one of them"),
        (OPEN_MPI, ("auto", None, None, None), "mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT"),
        ({"JAX_NUM_PROCESSES": "2"}, ("auto", None, None, None), "JAX_COORDINATOR_ADDRESS and JAX_PROCESS_ID not set"),
        (KUBEFLOW | {"JAX_PROCESS_ID": "x"}, ("auto", None, None, None), "JAX_PROCESS_ID=x: it must be a whole number"),
    ],
)
def test_half_a_job_is_refused(describe, variables: dict[str, str], options, remedy: str) -> None:
    describe(variables)
    with pytest.raises(ConfigError, match=re.escape(remedy)):
        find_job(*options)
