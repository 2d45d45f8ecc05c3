"""MLflow."""

import time
from typing import Any, NamedTuple

from metarl_jax.checks import checked
from metarl_jax.tracking.base import Artifact, Row, Text, TrackedRun, Tracker, flat, require_client, scalars

_PARAMETERS_PER_CALL = 100  # all that a server takes


class _Session(NamedTuple):
    client: Any
    run_id: str


@checked
def mlflow(*, experiment: Text = "metarl_jax", tracking_uri: Text | None = None) -> Tracker:
    """MLflow: a server, or a local store.

    Its steps are iterations; ``env_steps`` is a metric. Parameters are those that the run began with.

    Args:
      experiment: what the run belongs to; it is made if there is none of the name.
      tracking_uri: of the server or store; null for what MLFLOW_TRACKING_URI says, or sqlite:///mlflow.db.
    """
    require_client("mlflow")

    def init(run: TrackedRun) -> _Session:
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri)
        known = client.get_experiment_by_name(experiment)
        experiment_id = client.create_experiment(experiment) if known is None else known.experiment_id
        begun = client.search_runs([experiment_id], f"tags.metarl_id = '{run.id}'")
        if begun:
            run_id = begun[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {"metarl_id": run.id, **({} if run.group is None else {"group": run.group})}
            run_id = client.create_run(experiment_id, run_name=run.name, tags=tags).info.run_id
            _log_parameters(_Session(client, run_id), flat(run.config))
        return _Session(client, run_id)

    def log(session: _Session, row: Row) -> None:
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), row["iteration"]
        metrics = [Metric(name, number, now, step) for name, number in scalars(row).items()]
        session.client.log_batch(session.run_id, metrics=metrics, synchronous=True)

    def artifact(session: _Session, artifact: Artifact) -> None:
        if artifact.kind == "checkpoint":
            session.client.set_tag(session.run_id, "checkpoint", str(artifact.path.resolve()))
        else:
            session.client.log_artifact(session.run_id, str(artifact.path))

    return Tracker(init, log, artifact, lambda session: session.client.set_terminated(session.run_id))


def _log_parameters(session: _Session, values: dict[str, Any]) -> None:
    from mlflow.entities import Param

    parameters = [Param(name, str(value)) for name, value in values.items()]
    for first in range(0, len(parameters), _PARAMETERS_PER_CALL):
        some = parameters[first : first + _PARAMETERS_PER_CALL]
        session.client.log_batch(session.run_id, params=some, synchronous=True)
