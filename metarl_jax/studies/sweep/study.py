"""What a study's file says: one typed and frozen ``Study``, or one message that names everything that is wrong."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from annotated_types import Ge, MinLen
from pydantic import Field, ValidationError

from metarl_jax.checks import did_you_mean
from metarl_jax.config.errors import Problem, show, value_problem
from metarl_jax.config.schema import Section
from metarl_jax.config.source import normalise, read_yaml
from metarl_jax.types import PositiveInt, Seed

Values = tuple[Any, ...]
Range = tuple[float, float]
RECORD = "study.yaml"
"""In the directory of a study that has ended: what was asked for."""


class Spread(Section):
    """How the values of one key are drawn: exactly one of these."""

    uniform: Range | None = Field(None, description="Between two numbers.")
    log_uniform: Range | None = Field(None, description="Between two positive numbers, its logarithm uniform.")
    choice: Annotated[Values, MinLen(1)] | None = Field(None, description="One of these values, each as likely.")

    @property
    def ends(self) -> Range | None:
        """The range, if it is one."""
        return self.uniform or self.log_uniform


class Objective(Section):
    """What makes a setting a good one; of its seeds, the interquartile mean."""

    of: Literal["training", "evaluation"] = Field(
        "evaluation", description="A number of metrics.jsonl, or of meta-testing on held-out tasks after adaptation."
    )
    metric: str | None = Field(
        None, description="Its name; null: return_post of training, mean_return of evaluation (after the last step)."
    )
    last: PositiveInt = Field(10, description="Of training: the mean over the last so many updates.")
    direction: Literal["maximize", "minimize"] = Field("maximize", description="Which end is good.")

    @property
    def name(self) -> str:
        """The metric, chosen or default."""
        return self.metric or {"training": "return_post", "evaluation": "mean_return"}[self.of]


class Budget(Section):
    """How much is trained."""

    trials: PositiveInt | None = Field(None, description="Settings in all; null: all of the grid.")


class Halving(Section):
    """Successive halving (Jamieson and Talwalkar, 2016): settings that fall behind are not trained to the end."""

    first: PositiveInt = Field(description="Updates after which all settings are compared for the first time.")
    factor: Annotated[int, Ge(2)] = Field(
        3, description="The best of so many goes on, to so many times as many updates, and so on until the end."
    )


class Study(Section):
    """One study: a config, what is varied in it, and what is looked for."""

    config: Annotated[str, MinLen(1)] = Field(description="A file, beside this one or not, or a name of 'metarl list'.")
    overrides: dict[str, Any] = Field({}, description="Keys of the config that are set anew, in all runs.")
    seeds: PositiveInt | Annotated[tuple[Seed, ...], MinLen(1)] = Field(
        3, description="Runs of each setting: so many, from the config's seed on, or a list of seeds."
    )
    grid: dict[str, Annotated[Values, MinLen(1)]] = Field({}, description="Values by key: all combinations.")
    sample: dict[str, Spread] = Field(
        {}, description="Spreads by key: drawn for each trial or, beside a grid, for each round through it."
    )
    sampler: Literal["random", "sobol", "tpe"] = Field(
        "random",
        description="Independent draws, a scrambled Sobol sequence, or Optuna's TPE, which learns from trials.",
    )
    sampler_seed: Seed = Field(0, description="Decides what is drawn.")
    objective: Objective = Field(Objective(), description="What makes a setting a good one.")
    budget: Budget = Field(Budget(), description="How much is trained.")
    halving: Halving | None = Field(None, description="Stop early what falls behind.")
    batch: PositiveInt | None = Field(
        None, description="Trials that a worker takes at once, as lanes; null: few, of which the runs fill its devices."
    )
    storage: Annotated[str, MinLen(1)] | None = Field(
        None, description="URL of a database that Optuna keeps the study in; null: a journal in the study's directory."
    )

    @property
    def keys(self) -> tuple[str, ...]:
        """What is varied, the grid first."""
        return (*self.grid, *self.sample)


def read_study(path: Path) -> tuple[Study | None, list[Problem]]:
    """Read and check a study's file, but for what its keys mean to the config.

    Args:
      path: a YAML file.

    Returns:
      What of it can be used, None without a config; and what is wrong with the rest.

    Raises:
      ConfigError: if it is no mapping.

    Example:
      >>> study, problems = read_study(Path("examples/step_sizes.yaml"))  # doctest: +SKIP
      >>> study.sampler, problems  # doctest: +SKIP
      ('random', [])
    """
    values, problems = normalise(
        read_yaml(path, "config, and what to vary under grid or sample", "config: maml_navigation")
    )
    wrong: list[Problem] = []
    try:
        study = Study.model_validate(values)
    except ValidationError as error:
        wrong = list(translate(error, values))
        sound = _without([problem.path for problem in wrong], values)
        if "config" not in sound:
            return None, problems + wrong
        study = Study.model_validate(sound)
    return study, [*problems, *wrong, *contradictions(study, {problem.path[0] for problem in wrong})]


def _without(paths: Sequence[tuple[str, ...]], values: Mapping[str, Any]) -> dict[str, Any]:
    """What is left of a study without what is wrong: of a grid or of spreads the other keys, else no section."""
    in_part = {path[:2] for path in paths if path[0] in ("grid", "sample") and len(path) > 1}
    whole = {path[0] for path in paths if path[:2] not in in_part}

    def left(section: str, value: Any) -> Any:
        is_mapping = isinstance(value, Mapping)
        return {key: below for key, below in value.items() if (section, key) not in in_part} if is_mapping else value

    return {section: left(section, value) for section, value in values.items() if section not in whole}


class _Place(NamedTuple):
    """What a complaint is about: a key, what was given for it, its schema, and that of the section around it."""

    path: tuple[str, ...]
    value: Any
    schema: dict[str, Any]
    section: dict[str, Any]


def translate(error: ValidationError, values: Mapping[str, Any]) -> Iterator[Problem]:
    """Word pydantic's complaints about a study, one per key."""
    seen: set[tuple[str, ...]] = set()
    for item in error.errors(include_url=False):
        path, value, schema, section = _locate(item["loc"], values)
        if path not in seen:
            seen.add(path)
            if item["type"] == "missing" and len(path) == len(item["loc"]):
                yield Problem(path, "is required")
            elif item["type"] == "extra_forbidden":
                yield _unknown(path, list(section["properties"]))
            elif _is_section(schema):
                yield Problem(path, f"must be a section of indented 'key: value' lines (got {show(value)})")
            elif path[0] == "grid" or path[-1] == "choice":
                yield Problem(path, f"must be a list of values, at least one (got {show(value)})")
            else:
                yield value_problem(path, value, schema)


def _locate(location: tuple[int | str, ...], values: Mapping[str, Any]) -> _Place:
    """Where a complaint belongs: of a list, or of a value of several allowed forms, to the whole of it."""
    whole = Study.model_json_schema()
    place = _Place((), values, whole, whole)
    for part in map(str, location):
        path, value, section, _ = place
        if not _is_section(section):
            break
        below = section.get("properties", {}).get(part) or section["additionalProperties"] or {}
        within = value.get(part) if isinstance(value, Mapping) else None
        place = _Place((*path, part), within, _resolve(below, whole["$defs"]), section)
    return place


def _is_section(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _resolve(schema: dict[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """What a reference, or the one alternative to null, refers to."""
    sections = [option for option in schema.get("anyOf", [schema]) if "$ref" in option]
    return definitions[sections[0]["$ref"].rpartition("/")[2]] if sections else schema


def _unknown(path: tuple[str, ...], valid: list[str]) -> Problem:
    hint = did_you_mean(path[-1], valid) or ";"
    listing = f"{'V' if hint.endswith('?') else 'v'}alid keys: {', '.join(valid)}"
    return Problem(path, f"unknown key{hint} {listing}")


def contradictions(study: Study, damaged: Collection[str] = ()) -> Iterator[Problem]:
    """What is wrong although each value is of the right kind.

    Args:
      study: what of a file can be used.
      damaged: sections of which not all can: what rests on the whole of them is not known.
    """
    is_varied = not {"grid", "sample"} & set(damaged)
    if not study.keys and is_varied:
        yield Problem((), "varies nothing: give keys and their values under 'grid', or their spreads under 'sample'")
    for key in sorted(study.grid.keys() & study.sample.keys()):
        yield Problem(("sample", key), "is under 'grid' too; keep one")
    for key in sorted(study.overrides.keys() & set(study.keys)):
        yield Problem(("overrides", key), "is varied too; leave it out here")
    for section in ("overrides", "grid", "sample"):
        if "seed" in getattr(study, section):
            yield Problem((section, "seed"), "seeds are not a setting: give them under 'seeds'")
    if isinstance(study.seeds, tuple) and len(set(study.seeds)) < len(study.seeds):
        yield Problem(("seeds",), f"must differ (got {show(study.seeds)})")
    for key, values in study.grid.items():
        if any(value in values[:i] for i, value in enumerate(values)):
            yield Problem(("grid", key), f"must differ (got {show(values)})")
    for key, spread in study.sample.items():
        yield from _wrong_spread(("sample", key), spread)
    if is_varied and "budget" not in damaged:
        yield from _wrong_budget(study)
    if not {"sampler", "grid", "halving"} & set(damaged):
        yield from _wrong_sampler(study)


def _wrong_spread(path: tuple[str, ...], spread: Spread) -> Iterator[Problem]:
    given = [name for name in Spread.model_fields if getattr(spread, name) is not None]
    if len(given) != 1:
        yield Problem(path, f"must have one of {', '.join(Spread.model_fields)} (got {', '.join(given) or 'none'})")
        return
    if spread.ends is not None and not spread.ends[0] < spread.ends[1]:
        yield Problem((*path, *given), f"must be a smaller and a larger number (got {show(spread.ends)})")
    elif spread.log_uniform is not None and spread.log_uniform[0] <= 0:
        yield Problem((*path, *given), f"must be greater than 0 (got {show(spread.ends)}); 'uniform' may reach 0")


def _wrong_budget(study: Study) -> Iterator[Problem]:
    trials, cells = study.budget.trials, math.prod(map(len, study.grid.values()))
    path = ("budget", "trials")
    if study.sample and trials is None:
        yield Problem(path, "is required beside 'sample': how many settings to draw")
    elif trials is not None and trials < cells:
        yield Problem(
            path, f"must be at least {cells}, the settings of the grid (got {trials}); or make 'grid' smaller"
        )
    elif trials is not None and study.sample and trials % cells:
        around = f"{trials - trials % cells} or {trials - trials % cells + cells}"
        yield Problem(path, f"must be a multiple of {cells}, the settings of the grid (got {trials}); use {around}")


def _wrong_sampler(study: Study) -> Iterator[Problem]:
    if study.sampler == "tpe" and study.grid:
        remedy = "TPE draws every key: give the grid's values under 'sample', as 'choice'"
        yield Problem(("sampler",), f"must be random or sobol beside 'grid' (got 'tpe'); {remedy}")
    if study.sampler == "tpe" and study.halving is not None:
        remedy = "halving compares settings that are all drawn before any has ended, of which TPE learns nothing"
        yield Problem(("sampler",), f"must be random or sobol beside 'halving' (got 'tpe'): {remedy}")
