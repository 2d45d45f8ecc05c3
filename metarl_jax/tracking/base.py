"""Where a run is told of: one port, for the files in its directory and for every client beside them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import MinLen

from metarl_jax.checks import Refusal

Row = Mapping[str, Any]
"""One update, as ``metrics.jsonl`` has it: numbers, lists of them, and None for what is not finite."""
Text = Annotated[str, MinLen(1)]


class TrackedRun(NamedTuple):
    """A run, as a tracker is told of it when it begins or goes on.

    Attributes:
      directory: its run directory.
      iteration: outer updates so far; rows of the following ones come.
      id: of this run alone, and the same when it goes on.
      name: what people call it.
      group: what it shares with the runs of other seeds; None if there are none.
      config: plain values, by section.
    """

    directory: Path
    iteration: int = 0
    id: str = ""
    name: str = ""
    group: str | None = None
    config: Mapping[str, Any] = MappingProxyType({})


class Artifact(NamedTuple):
    """Something that a run left in its directory.

    Attributes:
      kind: a ``picture`` is a PNG, an ``evaluation`` the JSON of one, a ``checkpoint`` a folder that stays where it is.
      path: where.
    """

    kind: Literal["picture", "evaluation", "checkpoint"]
    path: Path


def _nothing(*_: Any) -> None:
    """What a tracker does of which it is not said."""


class Tracker(NamedTuple):
    """A place that a run is told of.

    Attributes:
      init: ``(run) -> session``, whatever the other functions need; of a run whose ``id`` is known, it goes on.
      log: ``(session, row)``; rows come in order, none twice.
      artifact: ``(session, artifact)``.
      finish: ``(session)``.
    """

    init: Callable[[TrackedRun], Any]
    log: Callable[[Any, Row], object]
    artifact: Callable[[Any, Artifact], object] = _nothing
    finish: Callable[[Any], object] = _nothing


def require_client(module: str) -> None:
    """Refuse a tracker whose client, and extra of this package, ``module`` is not installed.

    Raises:
      Refusal: with the command that installs it.

    Example:
      >>> require_client("json")
    """
    spec = find_spec(module)
    if spec is None or not spec.has_location:  # a folder of that name, such as ./wandb, is no client
        remedy = f"pip install 'metarl-jax[{module}]', or leave it out of logging.trackers"
        raise Refusal("", None, f"the tracker {module!r} needs its client: {remedy}")


def scalars(row: Row) -> dict[str, float]:
    """The finite numbers of a row, without its ``iteration``; each element of a list has a name of its own.

    Example:
      >>> scalars({"iteration": 3, "loss": None, "return_per_stage": [1.0, 2.0]})
      {'return_per_stage/0': 1.0, 'return_per_stage/1': 2.0}
    """
    named: dict[str, Any] = {}
    for name, value in row.items():
        named |= {f"{name}/{i}": each for i, each in enumerate(value)} if isinstance(value, list) else {name: value}
    return {name: number for name, number in named.items() if number is not None and name != "iteration"}


def flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config, dotted.

    Example:
      >>> flat({"seed": 0, "tasks": {"name": "navigation_finn", "horizon": 5}})
      {'seed': 0, 'tasks.name': 'navigation_finn', 'tasks.horizon': 5}
    """
    keys: dict[str, Any] = {}
    for name, value in config.items():
        below = {f"{name}.{key}": each for key, each in flat(value).items()} if isinstance(value, Mapping) else None
        keys |= {name: value} if below is None else below
    return keys


def evaluation_table(path: Path) -> tuple[list[str], list[list[float]]]:
    """The columns and rows of an evaluation's JSON: the return after 0..K units of adaptation, with its interval."""
    evaluation = json.loads(path.read_text())
    columns = ["gradient_steps", "mean_return", "ci_low", "ci_high"]
    return columns, [list(row) for row in zip(*(evaluation[column] for column in columns), strict=True)]


@contextmanager
def telling(trackers: Iterable[Tracker], run: TrackedRun) -> Iterator[Callable[[Row], None]]:
    """Tell trackers of a run, one after the other; what fails in one of them fails here.

    Yields:
      What takes a row.

    Example:
      >>> printing = Tracker(init=lambda run: None, log=lambda session, row: print(row))
      >>> with telling([printing], TrackedRun(Path("runs/x"))) as tell:
      ...     tell({"iteration": 1})
      {'iteration': 1}
    """
    with ExitStack() as opened:
        sessions = []
        for tracker in trackers:
            sessions.append((tracker, session := tracker.init(run)))
            opened.callback(tracker.finish, session)

        def tell(row: Row) -> None:
            for tracker, session in sessions:
                tracker.log(session, row)

        yield tell
