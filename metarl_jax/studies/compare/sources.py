"""What is compared: run directories, folders of seeds, studies, or configs that are yet to be trained."""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from metarl_jax.checks import Refusal, require
from metarl_jax.config import Config, ConfigError, load_config
from metarl_jax.config.source import find_config, read_yaml
from metarl_jax.runs.directory import holds_run, runs_in
from metarl_jax.runs.run import UNTRACKED, fixed_part, read_config
from metarl_jax.studies.sweep.study import RECORD

_METHOD = "algorithm.name"
_MOST_TOLD = 3  # keys in the name of a method
_LONGEST_NAME = 100  # of a folder, in characters; file systems end at 255 bytes


class Method(NamedTuple):
    """Runs that differ in their seeds alone, and perhaps in how long they are.

    Attributes:
      name: unlike that of the others.
      config: of the first run.
      runs: directory by seed.
      settings: of a study, what became of each of its settings (:class:`Setting`); else none.
    """

    name: str
    config: Config
    runs: Mapping[int, Path]
    settings: Sequence["Setting"] = ()


class Setting(NamedTuple):
    """What a trial of a study came to: its values by key, and its objective; None if it failed."""

    values: Mapping[str, str]
    objective: float | None


class Recipe(NamedTuple):
    """A config that is yet to be trained.

    Attributes:
      config: a file.
      overrides: ``KEY=VALUE`` that change it.
    """

    config: Path
    overrides: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """As it was given."""
        return " ".join([self.config.stem, *self.overrides])

    @property
    def name(self) -> str:
        """Of the folder in which its runs live; of many overrides, a digest of them."""
        whole = "_".join([self.config.stem, *(text.replace("/", "-") for text in self.overrides)])
        if len(whole) <= _LONGEST_NAME:
            return whole
        return f"{self.config.stem}_{hashlib.sha256(whole.encode()).hexdigest()[:12]}"


def recipes(words: Sequence[str]) -> list[Recipe]:
    """Read configs and what is to be changed in them.

    Args:
      words: configs and ``KEY=VALUE``: after a config they change it alone, before the first config all of them.

    Raises:
      ConfigError: if there is no such config, or a change does not fit.

    Example:
      >>> [one.name for one in recipes(["seed=2", "maml_navigation", "promp_navigation", "a.b=1"])]
      ['maml_navigation_seed=2', 'promp_navigation_seed=2_a.b=1']
    """
    common: list[str] = []
    given: list[tuple[Path, list[str]]] = []
    for word in words:
        if "=" not in word:
            given.append((find_config(Path(word)), []))
        elif given:
            given[-1][1].append(word)
        else:
            common.append(word)
    return [Recipe(config, (*common, *own)) for config, own in given]


def is_trained(word: str) -> bool:
    """Whether a word names runs or a study, and not a config or a change of one.

    Example:
      >>> is_trained("maml_navigation"), is_trained("seed=1")
      (False, False)
    """
    path = Path(word)
    return path.is_dir() or (path.is_file() and not {"tasks", "algorithm"} & read_yaml(path).keys())


def methods_in(paths: Sequence[Path]) -> list[Method]:
    """Find the runs in what was given, and put those together that differ in their seeds and lengths alone.

    Args:
      paths: run directories, folders of such, directories of studies, or their files.

    Returns:
      In the order in which they were given.

    Raises:
      Refusal: if there is no run, the same run twice, or runs of different tasks.
    """
    groups: dict[str, tuple[dict[int, Path], Sequence[Setting]]] = {}
    for path in paths:
        for runs, settings in _found(path):
            for run in runs:
                config = read_config(run, UNTRACKED)
                of_method, _ = groups.setdefault(_identity(config), ({}, settings))
                seed, known = config.seed, of_method.get(config.seed, run)
                remedy = "which differ at most in how long they are and in what is written and evaluated: give one"
                require(known == run, "seed", seed, f"is that of {known} and of {run}, {remedy}")
                of_method[seed] = run
    configs = [read_config(next(iter(runs.values())), UNTRACKED) for runs, _ in groups.values()]
    refuse_other_tasks(configs, [str(next(iter(runs.values()))) for runs, _ in groups.values()])
    named = zip(names(configs), configs, groups.values(), strict=True)
    return [Method(name, config, dict(sorted(runs.items())), settings) for name, config, (runs, settings) in named]


def studies_in(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """The directories of the studies among what :func:`methods_in` has accepted, and whether high objectives are good.

    Args:
      paths: as there.
    """
    others = [path for path in paths if not holds_run(path) and not runs_in(path)]
    return [(path if path.is_dir() else _directory_of(path), _direction(path) == "maximize") for path in others]


def _found(path: Path) -> list[tuple[list[Path], Sequence[Setting]]]:
    if holds_run(path):
        return [([path], ())]
    if several := runs_in(path):
        return [(several, ())]
    directory = path if path.is_dir() else _directory_of(path)
    if (directory / "study.csv").is_file():
        return _best_of_study(directory, _direction(path))
    raise Refusal("", None, f"{path} holds no run and no study that has ended: give what training or a sweep printed")


def _directory_of(file: Path) -> Path:
    tree = read_yaml(file)
    beside = file.parent / str(tree.get("config"))
    config = load_config(find_config(beside if beside.is_file() else Path(str(tree.get("config")))))
    return Path(config.logging.run_root) / file.stem


def _direction(path: Path) -> str:
    """Which end of the objective is good; of the directory of a study of an older version, the upper one."""
    file = path / RECORD if path.is_dir() else path
    tree = read_yaml(file) if file.is_file() else {}
    return str((tree.get("objective") or {}).get("direction", "maximize"))


def _best_of_study(directory: Path, direction: str) -> list[tuple[list[Path], Sequence[Setting]]]:
    """The runs of the best setting of each method in a study, with all settings of that method."""
    rows = list(csv.DictReader((directory / "study.csv").read_text().splitlines()))
    by_method: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_method.setdefault(row.get(_METHOD, ""), []).append(row)
    sign = 1.0 if direction == "maximize" else -1.0
    found: list[tuple[list[Path], Sequence[Setting]]] = []
    for of_method in by_method.values():
        done = [row for row in of_method if row["state"] == "finished"]
        require(bool(done), "study", str(directory), "none of its settings has finished: continue it with metarl sweep")
        best = max(done, key=lambda row: sign * float(row["objective"]))
        settings = [_setting(row) for row in of_method if row["state"] in ("finished", "failed")]
        folder = directory / "trials" / f"{int(best['trial']):04d}"
        require(bool(runs := runs_in(folder)), "study", str(directory), f"the runs of its best, {folder}, are gone")
        found.append((runs, settings))
    return found


def _setting(row: Mapping[str, str]) -> Setting:
    told = {"trial", "state", "updates", "objective"}
    values = {key: value for key, value in row.items() if key not in told and not key.startswith("seed ")}
    return Setting(values, float(row["objective"]) if row["objective"] else None)


def _identity(config: Config) -> str:
    """What runs of one method have in common, with their new tasks."""
    return json.dumps([_of_method(config), _tasks(config)], sort_keys=True)


def _tasks(config: Config) -> dict[str, Any]:
    """The keys that say which tasks are met, in training and after it; a policy or a value may be shown its task.

    Tasks for validation are taken from those held out, where these are apart from training.
    """
    tree = config.tasks.model_dump(mode="json", exclude={"oracle", "critic_oracle"})
    validates = tree["disjoint"] and config.evaluation.validation_tasks is not None
    return {**{f"tasks.{key}": value for key, value in tree.items()}, "with evaluation.validation_tasks": validates}


def refuse_other_tasks(configs: Sequence[Config], whose: Sequence[str]) -> None:
    """Refuse runs on different tasks: a policy or a value may be shown its task, all else has to be the same.

    Args:
      configs: of the methods.
      whose: what to call each.

    Raises:
      Refusal: naming the keys that differ.
    """
    first, *others = map(_tasks, configs)
    for other, name in zip(others, whose[1:], strict=True):
        differ = sorted(key for key in first.keys() | other.keys() if first.get(key) != other.get(key))
        if differ:
            listing = "; ".join(f"{key}: {first.get(key)!r} and {other.get(key)!r}" for key in differ)
            remedy = "returns on different tasks cannot be compared: compare them apart"
            raise Refusal("", None, f"{whose[0]} and {name} are on different tasks ({listing}); {remedy}")


def names(configs: Sequence[Config]) -> list[str]:
    """A name for each: its method, and that it sees its task; of those that then are alike, how they differ.

    Args:
      configs: of the methods.

    Returns:
      Different names.

    Example:
      >>> from metarl_jax.config import config_from_dict
      >>> slow, fast = ({"name": "maml", "inner_lr": step_size} for step_size in (0.1, 0.2))
      >>> names([config_from_dict({"tasks": {"name": "navigation_finn"}, "algorithm": x}) for x in (slow, fast)])
      ['maml, inner_lr 0.1', 'maml, inner_lr 0.2']
    """
    usual = [_role(config) for config in configs]
    flat = [_of_method(config) for config in configs]
    told = []
    for name, own in zip(usual, flat, strict=True):
        alike = [other for other, their in zip(flat, usual, strict=True) if their == name]
        differ = [key for key in own if any(other.get(key) != own[key] for other in alike)]
        told.append(", ".join([name, *(f"{key.rpartition('.')[2]} {own[key]}" for key in differ[:_MOST_TOLD])]))
    return [name if told.count(name) == 1 else f"{name} ({i + 1})" for i, name in enumerate(told)]


def _role(config: Config) -> str:
    if sees_task(config):
        return f"oracle ({config.algorithm.name})"
    return f"{config.algorithm.name}, told tasks in training" if _is_told_tasks(config) else config.algorithm.name


def sees_task(config: Config) -> bool:
    """Whether the policy is shown its task: an upper bound, which has nothing to adapt to."""
    return bool(config.tasks.model_dump()["oracle"])


def _is_told_tasks(config: Config) -> bool:
    return bool(config.tasks.model_dump()["critic_oracle"])


def _of_method(config: Config) -> dict[str, object]:
    """All that touches the numbers of a run at equal environment steps, but the seed: not how long it is."""
    return {key: value for key, value in fixed_part(config).items() if key != "seed"}


def check(recipes_given: Sequence[Recipe]) -> None:
    """Refuse configs that cannot be compared, before anything is trained.

    Args:
      recipes_given: what is to be trained.

    Raises:
      ConfigError: with every problem of a config; if two are the same, or there is none.
      Refusal: if they are on different tasks.
    """
    if not recipes_given:
        raise ConfigError("nothing to compare: give configs, or runs, before or after what is to be changed in them")
    configs = [load_config(one.config, list(one.overrides)) for one in recipes_given]
    refuse_other_tasks(configs, [one.words for one in recipes_given])
    known: dict[str, str] = {}
    for config, one in zip(configs, recipes_given, strict=True):
        twin = known.setdefault(_identity(config), one.words)
        if twin != one.words or [other.words for other in recipes_given].count(one.words) > 1:
            raise ConfigError(f"{one.words} and {twin} train the same, if not for as long: give one of them")
