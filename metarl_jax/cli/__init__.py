"""The command ``metarl``: one module per command; each imports what is slow only when it runs."""

import gc
from collections.abc import Callable

from metarl_jax.cli.app import app, explain_mistakes
from metarl_jax.cli.benchmark import benchmark
from metarl_jax.cli.catalogue import list_
from metarl_jax.cli.check_gradients import check_gradients
from metarl_jax.cli.compare import compare
from metarl_jax.cli.evaluate import evaluate
from metarl_jax.cli.plan import plan
from metarl_jax.cli.render import render
from metarl_jax.cli.schema import schema
from metarl_jax.cli.sweep import sweep
from metarl_jax.cli.train import EXIT_CODES, resume, train
from metarl_jax.report.text import keep_to_locale

_GARBAGE = 100_000  # new objects before Python looks for cycles: while it traces, nearly all are there to stay

COMMANDS: dict[str, Callable[..., None]] = {
    "train": train,
    "resume": resume,
    "sweep": sweep,
    "compare": compare,
    "evaluate": evaluate,
    "render": render,
    "plan": plan,
    "benchmark": benchmark,
    "check-gradients": check_gradients,
    "list": list_,
    "schema": schema,
}
for _name, _command in COMMANDS.items():
    app.command(_name, epilog=EXIT_CODES if _command in (train, resume, sweep, compare) else None)(_command)


def main() -> None:
    """Run the command; a user's mistake ends it with one message and exit code 2."""
    gc.set_threshold(_GARBAGE)
    keep_to_locale()
    with explain_mistakes():
        app(prog_name="metarl")
