"""How clients that speak as Weights & Biases does are given what a run left."""

from typing import Any

from metarl_jax.tracking.base import Artifact, evaluation_table


def send_artifact(client: Any, session: Any, artifact: Artifact) -> None:
    """Keep an artifact, and show it: a picture as such, an evaluation as a table; a checkpoint stays where it is.

    Args:
      client: ``wandb``, or a module that has what it has.
      session: what its ``init`` returned.
      artifact: what the run left.
    """
    kind, path = artifact
    kept = client.Artifact(f"{session.id}-{kind if kind == 'checkpoint' else path.stem}", type=kind)
    if kind == "checkpoint":
        kept.add_reference(path.resolve().as_uri(), checksum=False)
    else:
        kept.add_file(str(path))
    session.log_artifact(kept)
    if kind == "picture":
        session.log({path.stem: client.Image(str(path))})
    if kind == "evaluation":
        columns, rows = evaluation_table(path)
        session.log({path.stem: client.Table(columns=columns, data=rows)})
