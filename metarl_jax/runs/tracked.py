"""What the trackers of a config are told of a run: its updates while it trains, and what it left afterwards."""

import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from metarl_jax.checks import Refusal
from metarl_jax.config import Config, hyperparameters
from metarl_jax.runs.directory import hold
from metarl_jax.runs.run import read_config
from metarl_jax.tracking.base import Artifact, TrackedRun, Tracker
from metarl_jax.tracking.files import TRACKING, write_atomically
from metarl_jax.tracking.follow import Tell, following, last_told
from metarl_jax.tracking.jsonl import read_metrics

_IDENTITY = "run.json"


def make_trackers(config: Config) -> dict[str, Tracker]:
    """The trackers of a config, by name.

    Args:
      config: of a run.

    Raises:
      Refusal: if the client of one is not installed, with the command that installs it.

    Example:
      >>> from metarl_jax.config import load_config
      >>> make_trackers(load_config("quickstart"))
      {}
    """
    return {section.name: type(section).factory(**hyperparameters(section)) for section in config.logging.trackers}


@contextmanager
def tracked(
    config: Config, run_dir: Path, iteration: int, group: str | None, warn: Callable[[str], object]
) -> Iterator[Tell]:
    """Tell the trackers of a config of a run while it goes on.

    Args:
      config: of the run.
      run_dir: where it lives.
      iteration: outer updates so far.
      group: what it shares with the runs of other seeds, the first time; None if there are none.
      warn: called with a sentence if one is given up.

    Yields:
      What takes a row or an artifact.

    Raises:
      Refusal: as :func:`make_trackers`.
    """
    with _following(make_trackers(config), config, run_dir, iteration, group, warn) as tell:
        yield tell


def send(run_dir: Path, artifacts: Sequence[Artifact], warn: Callable[[str], object]) -> None:
    """Tell the trackers of a run what it left; that they cannot be told is no reason to fail.

    One that was given up, so that it lacks rows, is not asked again before the run is resumed.

    Args:
      run_dir: where it lives.
      artifacts: files and folders in it.
      warn: called with a sentence if one cannot be told.
    """
    try:
        config, rows = read_config(run_dir), read_metrics(run_dir)
        last = rows[-1]["iteration"] if rows else 0
        trackers = {
            name: tracker for name, tracker in make_trackers(config).items() if last_told(run_dir, name) == last
        }
        held = hold(run_dir, warn) if trackers else nullcontext()
        with held, _following(trackers, config, run_dir, last, None, warn) as tell:
            for artifact in artifacts:
                tell(artifact)
    except (Refusal, OSError, ValueError) as error:
        warn(f"the trackers were not told of {', '.join(artifact.path.name for artifact in artifacts)}: {error}")


@contextmanager
def _following(
    trackers: Mapping[str, Tracker],
    config: Config,
    run_dir: Path,
    iteration: int,
    group: str | None,
    warn: Callable[[str], object],
) -> Iterator[Tell]:
    if not trackers:
        yield lambda news: None
        return
    settings = config.model_dump(mode="json", exclude={"logging": {"trackers"}})  # addresses may hold a password
    told = {**settings, "run_directory": str(run_dir.resolve())}
    with following(trackers, TrackedRun(run_dir, iteration, **_identity(run_dir, group), config=told), warn) as tell:
        yield tell


def _identity(run_dir: Path, group: str | None) -> dict[str, Any]:
    """What the run is called, once and for all: it goes on under the same id, wherever its directory is by then."""
    file = run_dir / TRACKING / _IDENTITY
    if file.exists():
        identity: dict[str, Any] = json.loads(file.read_text())
        return identity
    name = run_dir.resolve().name
    identity = {"id": secrets.token_hex(6), "name": f"{group}/{name}" if group else name, "group": group}
    file.parent.mkdir(exist_ok=True)
    write_atomically(file, json.dumps(identity))
    return identity
