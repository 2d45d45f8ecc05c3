"""What all commands share: the application, its common arguments, and how a user's mistake ends it."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console
from rich.status import Status

from metarl_jax.report.text import columns, wrap

app = typer.Typer(
    name="metarl",
    help="Meta-reinforcement learning in JAX: train from a YAML file, evaluate adaptation, benchmark.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
errors = Console(stderr=True)
LARGEST_SEED = 2**32 - 1
_ERROR = "error: "


def _find_config(given: Path) -> Path:
    from metarl_jax.config.source import find_config

    return find_config(given)


ConfigPath = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="A YAML file, or a name that 'metarl list' shows.", callback=_find_config),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Config keys to set, as in algorithm.inner_lr=0.05.", show_default=False
    ),
]
Devices = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Devices to share the meta-batch; on a CPU, cores.",
        show_default="all there are, of cores the most that divide it",
    ),
]
RunDir = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="What training printed first.")]
Checkpoint = Annotated[
    str,
    typer.Option(help="'latest', 'best' (return after 1..K steps, on validation or training tasks), or an iteration."),
]


@contextmanager
def explain_mistakes() -> Iterator[None]:
    """End the process with one message, exit code 2 on a user's mistake, 1 on a full disk; let a fault through."""
    try:
        yield
    except Exception as error:
        _explain(error)
        raise


def _explain(error: Exception) -> None:
    """End the process if the error is a user's mistake or a full disk."""
    from metarl_jax.checks import Refusal
    from metarl_jax.runs.directory import WriteError, is_full

    if isinstance(error, Refusal):
        fail(str(error))
    if isinstance(error, WriteError):
        fail(str(error), code=1)
    if isinstance(error, OSError) and is_full(error):
        fail(f"{error.filename or 'a file'}: {error.strerror}; free some space", code=1)
    if isinstance(error, OSError) and error.filename is not None:
        fail(f"{error.filename}: {error.strerror}; choose another folder or file, or its permissions")


def fail(message: str, code: int = 2) -> NoReturn:
    """Say what is wrong and end the process."""
    said = wrap(message, columns(sys.stderr), _ERROR, " " * len(_ERROR))
    errors.print(_ERROR, style="bold red", end="")
    errors.print(said.removeprefix(_ERROR), markup=False, highlight=False, soft_wrap=True)
    sys.exit(code)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"metarl {version('metarl-jax')} (jax {version('jax')}, brax {version('brax')})")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions.")] = False,
) -> None:
    pass


def which(checkpoint: str) -> int | Literal["latest", "best"]:
    """Read the option ``--checkpoint``."""
    from metarl_jax.config import ConfigError

    if checkpoint in ("latest", "best"):
        return checkpoint  # type: ignore[return-value]
    if not checkpoint.isdigit():
        raise ConfigError(f"--checkpoint {checkpoint}: give 'latest', 'best' or an iteration")
    return int(checkpoint)


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that nothing can be written into, before any work is done for what is to go there.

    Args:
      option: with which the user gave it.
      folder: which may have to be made yet.

    Raises:
      ConfigError: naming what is in the way.

    Example:
      >>> check_folder("--output", Path("not/there/yet"))
    """
    from metarl_jax.config import ConfigError

    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise ConfigError(f"{option}: {there} is a file, so nothing can be put into {folder}; choose another folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise ConfigError(f"{option}: {there} may not be written into; choose another folder, or its permissions")


def check_file(option: str, file: Path) -> None:
    """Refuse a file that cannot be written, before any work is done for what is to be in it.

    Args:
      option: with which the user gave it.
      file: which may be there, and its folder may have to be made yet.

    Raises:
      ConfigError: naming what is in the way.

    Example:
      >>> check_file("--output", Path("not/there/yet.html"))
    """
    from metarl_jax.config import ConfigError

    if file.is_dir():
        raise ConfigError(f"{option}: {file} is a folder; name a file, which may lie in it")
    check_folder(option, file.parent)


def check_plot(option: str, file: Path) -> None:
    """As :func:`check_file`, of a file that a plot is saved to: its name says in which format.

    Example:
      >>> check_plot("--picture", Path("gradients.png"))
    """
    from matplotlib.backend_bases import FigureCanvasBase

    from metarl_jax.config import ConfigError

    check_file(option, file)
    if file.suffix[1:].lower() not in FigureCanvasBase.filetypes:
        raise ConfigError(f"{option} {file}: end the name of the picture in .png, .pdf or .svg")


def as_words(options: Mapping[str, object]) -> list[str]:
    """Options as they are given to a command; those that are None or False are not.

    Example:
      >>> as_words({"devices": 2, "evaluate": True, "num_processes": None, "keys": ("a", "b")})
      ['--devices', '2', '--evaluate', '--keys', 'a', 'b']
    """
    return [
        word
        for name, value in options.items()
        if value is not None and value is not False
        for word in (f"--{name.replace('_', '-')}", *_values(value))
    ]


def _values(value: object) -> list[str]:
    if value is True:
        return []
    return [str(one) for one in (value if isinstance(value, tuple) else (value,))]


def busy(doing: str) -> Status:
    """Show on a terminal that something is done, in characters that all of them have."""
    return errors.status(doing, spinner="line")


def warn(text: str) -> None:
    """Show a sentence on the terminal."""
    errors.print(wrap(text, columns(sys.stderr)), markup=False, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """Print what was asked for, as wide as fits."""
    print(wrap(text, columns(sys.stdout)), flush=True)
