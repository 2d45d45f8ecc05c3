"""What was asked for and where it ran: the config with what differs from the defaults, and each start."""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from metarl_jax.config import Config, dump
from metarl_jax.report.html.blocks import Block, Listing, Section, Table, Text
from metarl_jax.report.html.material import Material, Subject, runs_of
from metarl_jax.report.html.words import BLANK, shown
from metarl_jax.runs.memory import in_words

_REQUIRED = "(chosen)"


def settings(material: Material) -> Section:
    """The keys that differ from their defaults, beside these; and every config as it was written down."""
    values = [dict(_keys(subject.config)) for subject in material.subjects]
    keys = list(dict.fromkeys(key for found in values for key in found))
    rows = [
        [key, _default(values, key), *(shown(found[key][0]) if key in found else BLANK for found in values)]
        for key in keys
        if any(key in found and found[key][0] != found[key][1] for found in values)
    ]
    table = Table("Keys that are not at their defaults", ["key", "default", *_names(material)], rows)
    wholes = [Listing(f"{subject.name}: the whole config", dump(subject.config)) for subject in material.subjects]
    return Section("config", "Config", [table, *wholes])


def _names(material: Material) -> list[str]:
    return ["value"] if len(material.subjects) == 1 else [subject.name for subject in material.subjects]


def _default(values: list[dict[str, Any]], key: str) -> str:
    default = next(found[key][1] for found in values if key in found)
    return _REQUIRED if default is None and key.endswith(".name") else shown(default)


def _keys(config: Config) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Each key with its value and default, as plain data."""
    for name, field in type(config).model_fields.items():
        section = getattr(config, name)
        if not isinstance(section, BaseModel):
            yield name, (section, field.default)
            continue
        tree = section.model_dump(mode="json")
        defaults = _defaults(section)
        yield from ((f"{name}.{key}", (value, defaults.get(key))) for key, value in tree.items())


def _defaults(section: BaseModel) -> dict[str, Any]:
    """The defaults of a section, as its values are dumped."""
    given = {key: field.default for key, field in type(section).model_fields.items() if not field.is_required()}
    return type(section).model_construct(**given).model_dump(mode="json", include=set(given), warnings=False)


def provenance(material: Material) -> Section:
    """Versions, commit, host and hardware of each start of each run; alike ones share a column."""
    columns: dict[str, list[str]] = {}
    facts: dict[str, dict[str, str]] = {}
    for name, run in runs_of(material):
        for number, start in enumerate(run.starts):
            told = dict(_facts(start))
            key = str(sorted((fact, value) for fact, value in told.items() if fact not in _OF_A_START))
            facts.setdefault(key, told)
            columns.setdefault(key, []).append(f"{name}{f', start {number + 1}' if len(run.starts) > 1 else ''}")
    if not facts:
        return Section("provenance", "Where it ran", [Text("Not recorded: these runs are of an older version.")])
    names = list(dict.fromkeys(name for told in facts.values() for name in told if name not in _OF_A_START))
    rows = [[name, *(told.get(name, BLANK) for told in facts.values())] for name in names]
    table = Table("Versions, commit and hardware", ["", *("; ".join(runs) for runs in columns.values())], rows)
    return Section("provenance", "Where it ran", [table, _starts(material)])


_OF_A_START = ("started", "iteration", "command")


def _starts(material: Material) -> Block:
    rows = [
        [name, *(str(start.get(fact, BLANK)) for fact in _OF_A_START)]
        for name, run in runs_of(material)
        for start in run.starts
    ]
    return Table("Starts", ["run", "when", "from update", "command"], rows, folded=len(rows) > 3)


def _facts(start: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts of a start in words, those that are known."""
    for name, value in start.items():
        if value is None:
            continue
        match name:
            case "versions":
                yield from value.items()
            case "package_git" | "directory_git":
                whose = "package" if name == "package_git" else "working directory"
                yield f"git, {whose}", f"{value['commit']}{' and changes' if value['dirty'] else ''}"
            case "memory_bytes":
                yield "memory", in_words(value)
            case "devices":
                yield "devices", ", ".join(f"{one['count']} {one['kind']} ({one['platform']})" for one in value)
            case _:
                yield name.replace("_", " "), str(value)


def overview(material: Material) -> Section:
    """One row for each method: what it is, how far it is, what it came to."""
    head = ["method", "tasks", "seeds", "updates", "environment steps", "return before", "after adaptation"]
    return Section("overview", "Overview", [Table("Runs", head, [_overview(one) for one in material.subjects])])


_LAST = 10
"""Updates of which the overview gives the mean."""


def _overview(subject: Subject) -> list[str]:
    runs = [run.rows for run in subject.runs.values() if run.rows]
    start = [subject.name, subject.config.tasks.name, str(len(subject.runs)), _updates(subject)]
    if not runs:
        return [*start, *[BLANK] * 3]
    steps = min(rows[-1]["env_steps"] for rows in runs)
    returns = [_mean([row[name] for rows in runs for row in rows[-_LAST:]]) for name in ("return_pre", "return_post")]
    return [*start, f"{steps:,}", *returns]


def _updates(subject: Subject) -> str:
    """How far its runs are; of several lengths, those of each."""
    least: dict[int, int] = {}
    for run in subject.runs.values():
        reached = run.rows[-1]["iteration"] if run.rows else 0
        least[run.planned] = min(reached, least.get(run.planned, reached))
    return ", ".join(f"{reached} of {planned}" for planned, reached in least.items())


def _mean(values: list[float | None]) -> str:
    finite = [value for value in values if value is not None]
    return f"{sum(finite) / len(finite):.4g}" if finite else "not finite"
