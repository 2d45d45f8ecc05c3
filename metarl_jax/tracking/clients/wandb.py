"""Weights & Biases."""

import os
from typing import Any, Literal

from metarl_jax.checks import checked, require
from metarl_jax.tracking.base import Artifact, Row, Text, TrackedRun, Tracker, require_client, scalars
from metarl_jax.tracking.clients.artifacts import send_artifact
from metarl_jax.tracking.files import TRACKING


@checked
def wandb(
    *,
    project: Text = "metarl_jax",
    entity: Text | None = None,
    mode: Literal["online", "offline"] | None = None,
    tags: tuple[Text, ...] = (),
) -> Tracker:
    """Weights & Biases, online or offline.

    The axis is the environment steps; ``iteration`` is a metric that can take its place. wandb's own step counts the
    calls, since it only ever rises and a run may go on from an earlier checkpoint.

    Args:
      project: what the run belongs to.
      entity: the user or team that owns the project; null for your own.
      mode: 'offline' writes into the run directory, for 'wandb sync'; null for what WANDB_MODE says, or online.
      tags: of the run.
    """
    require_client("wandb")

    def init(run: TrackedRun) -> Any:
        import wandb as client

        if (mode or os.environ.get("WANDB_MODE", "online")) == "online":  # wandb would ask on the terminal
            remedy = "run 'wandb login', set WANDB_API_KEY, or set mode: offline"
            require(client.login(prompt=False), "", None, f"nobody is logged in: {remedy}")
        (run.directory / TRACKING).mkdir(exist_ok=True)
        session = client.init(
            id=run.id,
            resume="allow",
            reinit="create_new",  # runs go side by side
            project=project,
            entity=entity,
            mode=mode,
            tags=tags,
            name=run.name,
            group=run.group,
            config=dict(run.config),
            allow_val_change=True,
            dir=run.directory / TRACKING,
            settings=client.Settings(console="off", quiet=True),  # the terminal is the run's
        )
        session.define_metric("iteration")
        session.define_metric("*", step_metric="env_steps", step_sync=False)  # a picture has no steps
        return session

    def log(session: Any, row: Row) -> None:
        session.log({"iteration": row["iteration"], **scalars(row)})

    def artifact(session: Any, artifact: Artifact) -> None:
        import wandb as client

        send_artifact(client, session, artifact)

    return Tracker(init, log, artifact, lambda session: session.finish())
