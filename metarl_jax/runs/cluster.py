"""The job that a process belongs to: given by hand, or described by whatever started the process."""

import os
from typing import Literal, NamedTuple

from metarl_jax.config import ConfigError

Distributed = Literal["auto", "on", "off"]
_JAX_VARIABLES = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


class Job(NamedTuple):
    """One process among several.

    Attributes:
      coordinator: ``HOST:PORT`` of the first process.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      local_id: which of its host's processes this is, where each is to have one accelerator; None: it takes them all.
    """

    coordinator: str
    num_processes: int
    process_id: int
    local_id: int | None = None


def find_job(
    distributed: Distributed, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Job | None:
    """What the command line, or else the environment, says about the other processes.

    Args:
      distributed: ``auto`` looks at the environment; ``on`` does, and something must be found there.
      coordinator: by hand: ``HOST:PORT`` of the first process.
      num_processes: with ``coordinator``, how many there are.
      process_id: with ``coordinator``, which one this is.

    Returns:
      The job; None for a process on its own.

    Raises:
      ConfigError: if the options do not go together, or what the environment says is incomplete.

    Example:
      >>> find_job("off", "node1:7777", num_processes=2, process_id=0)
      Job(coordinator='node1:7777', num_processes=2, process_id=0, local_id=None)
    """
    if coordinator is None and (num_processes is not None or process_id is not None):
        raise ConfigError("--num-processes and --process-id need --coordinator HOST:PORT")
    if coordinator is None:
        job = None if distributed == "off" else _described()
        if job is None and distributed == "on":
            raise ConfigError(
                "--distributed on: no Slurm, Open MPI, Kubernetes or TPU job was found: start it there, "
                f"set {', '.join(_JAX_VARIABLES)}, or give --coordinator HOST:PORT"
            )
    elif distributed != "off":
        raise ConfigError("--coordinator joins by hand, --distributed by what is found: give one of them")
    elif num_processes is None or process_id is None:
        raise ConfigError("--coordinator needs --num-processes and --process-id")
    else:
        job = Job(coordinator, num_processes, process_id)
    return None if job is None else _checked(job)


def _checked(job: Job) -> Job | None:
    host, _, port = job.coordinator.rpartition(":")
    if job.num_processes == 1:
        return None
    if not host or not port.isdigit():
        raise ConfigError(f"coordinator {job.coordinator}: give the first process's HOST:PORT")
    if not 0 <= job.process_id < job.num_processes:
        raise ConfigError(f"process {job.process_id} of {job.num_processes}: they are numbered from 0")
    return job


def _described() -> Job | None:
    return _by_variables() or _by_open_mpi() or _by_cluster()


def _by_variables() -> Job | None:
    """As Kubeflow Trainer's JAX runtime, or a script, says it."""
    if not set(_JAX_VARIABLES[1:]) & os.environ.keys():
        return None
    missing = [name for name in _JAX_VARIABLES if name not in os.environ]
    if missing:
        raise ConfigError(f"{' and '.join(missing)} not set: {', '.join(_JAX_VARIABLES)} go together")
    coordinator, count, number = _JAX_VARIABLES
    return Job(os.environ[coordinator], _number(count), _number(number))


def _by_open_mpi() -> Job | None:
    """As mpirun says it; JAX knows the variables of Open MPI 4, and 5 no longer tells where the first process is."""
    from jax._src.clusters import OmpiCluster

    variables = ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK")
    if any(name not in os.environ for name in variables):
        return None
    count, number, local = map(_number, variables)
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator is None and OmpiCluster.is_env_present():
        coordinator = OmpiCluster.get_coordinator_address(None, os.environ.get("JAX_COORDINATOR_PORT"))
    if coordinator is None and count > 1:
        raise ConfigError(
            "this Open MPI does not say where the first process is: give mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT"
        )
    return Job(coordinator or "", count, number, local)


def _number(name: str) -> int:
    """The value of a variable that counts something."""
    if not os.environ[name].isdigit():
        raise ConfigError(f"{name}={os.environ[name]}: it must be a whole number")
    return int(os.environ[name])


def _by_cluster() -> Job | None:
    """As JAX reads Slurm, TPU pods and indexed jobs of Kubernetes; it has no public name for that."""
    from jax._src import clusters

    # Any pod has Kubernetes' variables; asking its server for a job needs one, and rights.
    kubernetes = (clusters.K8sCluster,) if "JOB_COMPLETION_INDEX" in os.environ else ()
    known = (clusters.SlurmCluster, clusters.GkeTpuCluster, clusters.GceTpuCluster, *kubernetes)
    cluster = next((one for one in known if one.is_env_present()), None)
    if cluster is None:
        return None
    try:
        coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS") or cluster.get_coordinator_address(
            300, os.environ.get("JAX_COORDINATOR_PORT")
        )
        return Job(coordinator, cluster.get_process_count(), cluster.get_process_id(), cluster.get_local_process_id())
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"--distributed: {error}") from error
