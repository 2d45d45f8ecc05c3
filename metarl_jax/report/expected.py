"""What a config that comes with the package came to, for those who have just trained it."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from rich.markup import escape
from rich.table import Table

from metarl_jax.config import Config, load_config
from metarl_jax.config.source import SHIPPED, read_yaml
from metarl_jax.report.tables import with_intervals
from metarl_jax.report.text import amount
from metarl_jax.tracking.files import write_atomically

FILE = Path(__file__).with_suffix(".json")
"""Made by ``benchmarks/expected.py`` from the results that lie beside it."""

_OF_NO_EFFECT = {
    "training": ("keep_checkpoints", "log_every", "updates_per_visit"),
    "evaluation": ("num_tasks", "seed", "every"),
}
"""Keys that may differ: they change nothing, or only which tasks are met."""

Row = tuple[str, float, float, float, float]


class Expected(NamedTuple):
    """The results of one config.

    Attributes:
      seeds: how many runs.
      iterations: of each run.
      env_steps: that each of them took, about; None if the results do not tell.
      checkpoint: that was evaluated, ``latest`` or ``best``.
      tasks: that they were evaluated on, in words.
      unit: of adaptation, in the plural.
      rows: amount of adaptation, mean return, lowest and highest seed (of a single one, the ends of the 95 % interval
        over tasks), and the return of a random initialisation.
    """

    seeds: int
    iterations: int
    env_steps: int | None
    checkpoint: str
    tasks: str
    unit: str
    rows: list[Row]


def write_expected(results: dict[str, Expected], file: Path = FILE) -> None:
    """Write what configs came to, by name, a line for each."""
    lines = (f"{json.dumps(name)}: {json.dumps(told._asdict())}" for name, told in results.items())
    write_atomically(file, "{\n" + ",\n".join(lines) + "\n}\n")


def read_expected(file: Path = FILE) -> dict[str, Expected]:
    """What configs came to, by name."""
    found = json.loads(file.read_text())
    return {name: Expected(**{**told, "rows": [tuple(row) for row in told["rows"]]}) for name, told in found.items()}


def find_expected(config: Config) -> tuple[str, Expected] | None:
    """What a run can be measured by: the results of a shipped config with the same settings, but for the seed.

    Args:
      config: of the run.

    Returns:
      The shipped config's name and results; None if none has these settings.

    Example:
      >>> from metarl_jax.config import load_config
      >>> (find_expected(load_config("quickstart", ["seed=7"])) or [None])[0]
      'quickstart'
      >>> find_expected(load_config("quickstart", ["algorithm.inner_lr=0.4"])) is None
      True
    """
    for name, told in read_expected().items():
        file = SHIPPED / f"{name}.yaml"
        if _names(read_yaml(file)) == _names(config.model_dump()) and _kept(load_config(file)) == _kept(config):
            return name, told
    return None


def _names(tree: dict[str, Any]) -> tuple[str, str]:
    return tree["tasks"]["name"], tree["algorithm"]["name"]


def _kept(config: Config) -> dict[str, Any]:
    """All settings that a result depends on, but for the seed."""
    tree = config.model_dump(mode="json", exclude={"seed", "logging"})
    return {
        section: {key: value for key, value in (keys or {}).items() if key not in _OF_NO_EFFECT.get(section, ())}
        for section, keys in tree.items()
    }


def expected_table(name: str, told: Expected) -> Table:
    """What a config came to, as a table.

    Args:
      name: of the config.
      told: its results.
    """
    steps = "" if told.env_steps is None else f", {told.env_steps / 1e6:.3g}M environment steps"
    budget = f"{amount(told.seeds, 'seed')}, {amount(told.iterations, 'iteration')}{steps}"
    spread = "[lowest, highest] over seeds" if told.seeds > 1 else "[95 % interval over tasks]"
    table = Table(
        title=f"A good result: what {name} came to ({budget}{' each' if told.seeds > 1 else ''})",
        caption=escape(f"mean return {spread}; {told.tasks}, {told.checkpoint} checkpoint"),
    )
    names, *numbers = zip(*told.rows, strict=True)
    middle, low, high, random = map(list, numbers)
    table.add_column(told.unit.replace(" ", "\n"), justify="right")
    table.add_column("meta-trained", justify="right")
    table.add_column("random\ninitialisation", justify="right")
    means = with_intervals([list(row) for row in zip(middle, low, high, strict=True)])
    for row in zip(names, means, with_intervals([[value] for value in random]), strict=True):
        table.add_row(*row)
    return table
