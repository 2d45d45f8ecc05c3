"""The command ``metarl``: one module per command; each imports what is slow only when it runs."""

from collections.abc import Callable

from metarl_jax.cli.app import app, explain_mistakes
from metarl_jax.cli.benchmark import benchmark
from metarl_jax.cli.catalogue import list_
from metarl_jax.cli.check_gradients import check_gradients
from metarl_jax.cli.evaluate import evaluate
from metarl_jax.cli.export import export
from metarl_jax.cli.plan import plan
from metarl_jax.cli.publish import publish
from metarl_jax.cli.render import render
from metarl_jax.cli.schema import schema
from metarl_jax.cli.sweep import sweep
from metarl_jax.cli.train import EXIT_CODES, resume, train

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "resume": resume,
    "sweep": sweep,
    "evaluate": evaluate,
    "render": render,
    "export": export,
    "publish": publish,
    "plan": plan,
    "benchmark": benchmark,
    "check-gradients": check_gradients,
    "list": list_,
    "schema": schema,
}
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=EXIT_CODES if _command in (train, resume, sweep) else None)(_command)


def main() -> None:
    """Run the command; a user's mistake ends it with one message and exit code 2."""
    with explain_mistakes():
        app()
