"""Validation: a tree of plain values to a ``Config``, or a ``ConfigError`` with every problem."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metarl_jax.algorithms import ALGORITHMS
from metarl_jax.config.errors import ConfigError, Problem, render, show
from metarl_jax.config.overrides import apply_overrides
from metarl_jax.config.schema import Catalogue
from metarl_jax.config.sections import Config
from metarl_jax.config.source import find_config, normalise, read_yaml, renamed
from metarl_jax.config.trackers import settle_trackers
from metarl_jax.config.validation import choose_model, config_model, contradictions, translate, union_model
from metarl_jax.networks import POLICIES
from metarl_jax.tasks import FAMILIES
from metarl_jax.tracking import TRACKERS

DEFAULT_CATALOGUE = Catalogue(tasks=FAMILIES, policy=POLICIES, algorithm=ALGORITHMS)


def load_config(
    path: str | Path,
    overrides: Sequence[str] = (),
    catalogue: Catalogue = DEFAULT_CATALOGUE,
    closed: Path | None = None,
) -> Config:
    """Read and validate an experiment.

    Args:
      path: a YAML file, or the name of one that ``metarl list`` shows.
      overrides: ``key.path=value`` each; the value is YAML; later ones win.
      catalogue: the factories that the file can name.
      closed: a folder of which no module of the user's own is taken, though the file lies there: a run directory.

    Returns:
      The config, defaults filled in.

    Raises:
      ConfigError: with every problem that was found.

    Example:
      >>> load_config("quickstart", ["seed=3"]).seed
      3
    """
    file = find_config(path)
    written = read_yaml(file)
    tree, overridden = apply_overrides(written if closed is None else renamed(written, str(file)), overrides)
    return config_from_dict(
        tree, source=str(file), overridden=overridden, catalogue=catalogue, folders=[file.parent], closed=closed
    )


def config_from_dict(
    tree: Mapping[str, Any],
    *,
    source: str | None = None,
    overridden: Sequence[tuple[str, ...]] = (),
    catalogue: Catalogue = DEFAULT_CATALOGUE,
    folders: Sequence[Path] = (),
    closed: Path | None = None,
) -> Config:
    """Validate an experiment given as plain values.

    Args:
      tree: sections by name. A name ``module:factory`` is a factory of the user's own.
      source: where it is from, for errors.
      overridden: key paths that came from the command line, for errors.
      catalogue: the factories of ours that ``tree`` can name.
      folders: where modules of the user's own may lie, besides the working directory and what is installed.
      closed: a folder of which none is taken, whatever it holds.

    Returns:
      The config, defaults filled in.

    Raises:
      ConfigError: with every problem that was found.

    Example:
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> config.training.num_iterations
      100
    """
    if not isinstance(tree, Mapping):
        raise ConfigError(f"must be a mapping of sections (got {show(tree)})")
    values, problems = normalise(tree)
    looked_up = [
        folder
        for folder in (Path.cwd(), *folders)
        if closed is None or not folder.resolve().is_relative_to(closed.resolve())
    ]
    chosen = {
        section: choose_model(section, values.get(section), factories, looked_up)
        for section, factories in catalogue._asdict().items()
    }
    problems += [problem for problem in chosen.values() if isinstance(problem, Problem)]
    values["logging"], wrong = settle_trackers(values.get("logging"), TRACKERS, looked_up)
    problems += wrong
    # A section whose name says nothing is not checked further.
    model = config_model(**{key: object if isinstance(kind, Problem) else kind for key, kind in chosen.items()})
    try:
        config = model.model_validate(values)
    except ValidationError as error:
        problems += translate(error, values, model, catalogue)
    else:
        problems += contradictions(config)
    if problems:
        raise render(problems, source, overridden)
    return config


def check_devices(config: Config, num_devices: int) -> None:
    """Refuse a meta-batch that cannot be shared evenly.

    Args:
      config: the experiment.
      num_devices: devices that share the tasks of one update.

    Raises:
      ConfigError: if the meta-batch is not a multiple of ``num_devices``.

    Example:
      >>> config = config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": {"name": "maml"}})
      >>> check_devices(config, 4)
    """
    size = config.training.meta_batch_size
    if size % num_devices:
        below, above = size - size % num_devices, size - size % num_devices + num_devices
        near = f"{below} or {above}" if below else str(above)
        raise ConfigError(
            f"training.meta_batch_size: must be a multiple of the number of devices, {num_devices} "
            f"(got {size}); use {near}"
        )


def config_schema(catalogue: Catalogue = DEFAULT_CATALOGUE) -> dict[str, Any]:
    """The JSON schema of a config file: every key with its type, range, default and description.

    Returns:
      The schema, for documentation and for editors that complete YAML.

    Example:
      >>> sorted(config_schema()["properties"])[:3]
      ['algorithm', 'evaluation', 'logging']
    """
    return union_model(catalogue, TRACKERS).model_json_schema()
