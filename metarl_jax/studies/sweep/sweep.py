"""A study with the config that it varies: the config of each run, and what is refused before anything compiles."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from metarl_jax.checks import Refusal, did_you_mean
from metarl_jax.config import Config, ConfigError, config_from_dict, load_config, static_part
from metarl_jax.config.errors import Problem, render, show
from metarl_jax.config.overrides import with_value
from metarl_jax.config.schema import Section
from metarl_jax.config.source import find_config, normalise, read_yaml
from metarl_jax.config.traced import traceable
from metarl_jax.runs.build import with_config
from metarl_jax.runs.launch import settled_program
from metarl_jax.runs.program import Program
from metarl_jax.studies.sweep.objective import names
from metarl_jax.studies.sweep.points import Point, corners, known_points
from metarl_jax.studies.sweep.study import Study, read_study
from metarl_jax.studies.sweep.trials import halving_rungs


class Sweep(NamedTuple):
    """A study and the config that it varies.

    Attributes:
      study: what the file says.
      file: where it says so.
      config_file: of the config.
      tree: the config, plain, with the study's overrides.
      base: the config of the first setting.
    """

    study: Study
    file: Path
    config_file: Path
    tree: dict[str, Any]
    base: Config


def load_sweep(file: Path) -> Sweep:
    """Read a study's file and its config, and check every key and value that it sets.

    Args:
      file: a YAML file.

    Raises:
      ConfigError: with every problem that was found.
    """
    study, wrong = read_study(file)
    problems = list(_words(wrong, file))
    if study is None:
        raise ConfigError(*problems)
    try:
        alone = _with_config(study, file)  # in whose own mistakes no key is looked for
        sweep = alone._replace(tree=_with_values(alone, study.overrides))
    except ConfigError as error:
        raise ConfigError(*problems, *error.problems) from None
    statics = list(_static_ranges(study, [alone.base]))
    static_keys = {problem.path[-1] for problem in statics}
    of_values = _problems(sweep, corners(study), static_keys)
    if not (problems or statics or of_values):
        of_values = _problems(sweep, known_points(study))
    configs = [] if of_values or statics else [config_of(sweep, values) for values in corners(study)]
    statics = statics or list(_static_ranges(study, configs))
    times = [*_wrong_rungs(study, configs[0] if configs else None)]
    times += [problem for config in configs for problem in _wrong_period(study, config)]
    if problems := [*problems, *_words(statics, file), *of_values, *_words(times, file)]:
        raise ConfigError(*dict.fromkeys(problems))
    return sweep._replace(base=configs[0])


def _with_config(study: Study, file: Path) -> Sweep:
    beside = file.parent / study.config
    config_file = find_config(beside if beside.is_file() else study.config)
    tree: dict[str, Any] = normalise(read_yaml(config_file))[0]
    return Sweep(study, file, config_file, tree, load_config(config_file))


def config_of(sweep: Sweep, values: Point, seed: int | None = None) -> Config:
    """The config of one run.

    Args:
      sweep: the study.
      values: the setting.
      seed: of the run; the config's if None.

    Raises:
      ConfigError: if the values do not fit.
    """
    tree = _with_values(sweep, values if seed is None else {**values, "seed": seed})
    return config_from_dict(tree, source=str(sweep.file), folders=[sweep.config_file.parent])


def _with_values(sweep: Sweep, values: Mapping[str, Any]) -> dict[str, Any]:
    tree = sweep.tree
    for key, value in values.items():
        try:
            tree = with_value(tree, key.split("."), value)
        except ConfigError as error:
            raise ConfigError(*(f"{sweep.file}: {problem}" for problem in error.problems)) from None
    return tree


def _problems(sweep: Sweep, settings: Sequence[Point], left_out: Collection[str] = ()) -> list[str]:
    problems: list[str] = []
    for values in settings:
        try:
            config_of(sweep, {key: value for key, value in values.items() if key not in left_out})
        except ConfigError as error:
            problems += error.problems
    return problems


def _words(problems: Sequence[Problem], file: Path) -> Sequence[str]:
    return render(problems, str(file), []).problems


def seeds_of(sweep: Sweep) -> tuple[int, ...]:
    """The seeds of each setting."""
    given = sweep.study.seeds
    first = sweep.base.seed
    return given if isinstance(given, tuple) else tuple(range(first, first + given))


def rungs_of(sweep: Sweep) -> list[int]:
    """The numbers of updates at which settings are compared before the end; none without halving."""
    return halving_rungs(sweep.study, sweep.base.training.num_iterations)


def record_of(sweep: Sweep) -> dict[str, Any]:
    """What must not change once the study has begun, by key: all but how much is trained, at once or in all."""
    study = sweep.study.model_dump(mode="json", exclude={"config", "overrides", "batch", "storage"})
    if sweep.study.halving is None:  # else all settings of the budget are compared with each other
        del study["budget"]
    return _flat(study | {"config": _flat(sweep.base.model_dump(mode="json", exclude={"logging"}))})


def _flat(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What lies in sections, by dotted key."""
    sections = {name: below if isinstance(below, dict) else {"": below} for name, below in tree.items()}
    return {f"{name}.{key}".rstrip("."): value for name, below in sections.items() for key, value in below.items()}


# What is refused.


def _static_ranges(study: Study, configs: Sequence[Config]) -> Iterator[Problem]:
    ranges = {key: spread.ends for key, spread in study.sample.items() if spread.ends is not None}
    for key, ends in ranges.items():
        section, _, name = key.partition(".")
        owners = [getattr(config, section, None) for config in configs]
        if any(hasattr(owner, name) and name not in traceable(owner) for owner in owners if isinstance(owner, Section)):
            remedy = f"list values as 'choice' or under 'grid'; ranges are for {', '.join(_traced_keys(configs[0]))}"
            why = f"each value makes another program, so it has no range (got {show(ends)})"
            yield Problem(("sample", key), f"{why}; {remedy}")


def _traced_keys(config: Config) -> list[str]:
    sections = {name: getattr(config, name) for name in type(config).model_fields}
    owners = {name: owner for name, owner in sections.items() if isinstance(owner, Section)}
    return [f"{name}.{key}" for name, owner in owners.items() for key in sorted(traceable(owner))]


def _wrong_rungs(study: Study, config: Config | None) -> Iterator[Problem]:
    halving, key = study.halving, "training.num_iterations"
    if halving is not None and config is not None and halving.first >= config.training.num_iterations:
        last = config.training.num_iterations
        yield Problem(("halving", "first"), f"must be less than {last}, {key} (got {halving.first})")
    if halving is not None and key in study.keys:
        yield Problem(("halving",), f"settings are compared at equal updates: do not vary {key}, or leave halving out")


def _wrong_period(study: Study, config: Config) -> Iterator[Problem]:
    objective, last = study.objective, config.training.num_iterations
    first = min([*halving_rungs(study, last), last])
    is_monitored = objective.name.startswith(("evaluation_", "validation_"))
    every, do = (config.evaluation.every, "evaluate") if is_monitored else (config.training.log_every, "log")
    if objective.of == "training" and every is not None and every > first:
        remedy = f"settings are first compared after update {first}: {do} no later"
        yield Problem(("objective", "metric"), f"{objective.name} comes every {every} updates; {remedy}")


def group_of(config: Config) -> str:
    """What runs of one program have in common."""
    return json.dumps(static_part(config), sort_keys=True)


def make_programs(sweep: Sweep, devices: Sequence[jax.Device], num_lanes: int) -> Callable[[Config], Program]:
    """What makes the program of a run, once for each group of runs.

    Those of every value are traced at once, without compiling: what is asked for in vain is refused here.

    Args:
      sweep: the study.
      devices: to train on.
      num_lanes: runs that go through a program together.

    Returns:
      ``(config) -> program``.

    Raises:
      ConfigError: if a combination of values cannot work, or a method does not report the objective.
    """
    programs: dict[str, Program] = {}

    def program_of(config: Config) -> Program:
        group = group_of(config)
        if group not in programs:
            program = settled_program(config, devices, num_lanes)
            _check_objective(sweep, program)
            programs[group] = program
        return programs[group]

    problems: dict[str, None] = {}
    refused: set[str] = set()
    for config in (config_of(sweep, values) for values in corners(sweep.study)):
        if (group := group_of(config)) not in refused:
            try:
                with_config(program_of(config).experiment, config)  # its numbers are checked
            except Refusal as refusal:
                problems |= dict.fromkeys(str(refusal).split("\n"))
                refused |= {group} - programs.keys()
    if problems:
        raise ConfigError(*problems)
    return program_of


def _check_objective(sweep: Sweep, program: Program) -> None:
    objective, config = sweep.study.objective, program.experiment.config
    known = names(objective, program)
    if objective.name not in known:
        hint = did_you_mean(objective.name, known) or ";"
        listing = f"{'O' if hint.endswith('?') else 'o'}f {objective.of}, there are: {', '.join(known)}"
        what = f"{config.algorithm.name} on {config.tasks.name} does not report it"
        problem = Problem(("objective", "metric"), f"{what} (got {show(objective.name)}){hint} {listing}")
        raise ConfigError(*_words([problem], sweep.file))
