"""Trackio."""

from typing import Any

from metarl_jax.checks import checked
from metarl_jax.tracking.base import Artifact, Row, Text, TrackedRun, Tracker, flat, require_client, scalars
from metarl_jax.tracking.clients.artifacts import send_artifact


@checked
def trackio(*, project: Text = "metarl_jax", space_id: Text | None = None) -> Tracker:
    """Trackio: local, or a Space of the Hugging Face Hub.

    Its steps are iterations; ``env_steps`` is a metric. It tells runs apart by their names, so each gets its id in its
    name.

    Args:
      project: what the run belongs to.
      space_id: the Space that shows it; null for what TRACKIO_SPACE_ID says, or a folder of this machine (TRACKIO_DIR).
    """
    require_client("trackio")

    def init(run: TrackedRun) -> Any:
        import trackio as client

        return client.init(
            project=project,
            name=f"{run.name}-{run.id}",
            group=run.group,
            space_id=space_id,
            config=flat(run.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def log(session: Any, row: Row) -> None:
        session.log(scalars(row), step=row["iteration"])

    def artifact(session: Any, artifact: Artifact) -> None:
        import trackio as client

        send_artifact(client, session, artifact)

    return Tracker(init, log, artifact, lambda session: session.finish())
