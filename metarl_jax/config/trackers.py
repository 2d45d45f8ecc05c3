"""The list of trackers in a config: each is a section of its own, with the keys of the factory that it names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from metarl_jax.config.errors import Problem, show
from metarl_jax.config.schema import Catalogue, Factory, NamedSection
from metarl_jax.config.validation import choose_model, translate

_ALONE = Catalogue({}, {}, {})  # no key of another section is meant


def settle_trackers(
    logging: object, factories: Mapping[str, Factory], folders: Sequence[Path] = ()
) -> tuple[object, list[Problem]]:
    """Read the list of trackers in a ``logging`` section: names, or sections of a name and its keys.

    Args:
      logging: what the tree has there.
      factories: ours, by name.
      folders: where the user's modules may lie, besides among what is installed.

    Returns:
      The section with a validated one for each tracker, and what is wrong.

    Example:
      >>> settle_trackers({"trackers": ("wnadb",)}, {"wandb": print})[1][0].message
      "no such tracker (got 'wnadb'); did you mean 'wandb'? Choose one of: wandb"
    """
    if not isinstance(logging, Mapping) or "trackers" not in logging:
        return logging, []
    given = logging["trackers"]
    if not isinstance(given, tuple):
        return {**logging, "trackers": ()}, [
            Problem(("logging", "trackers"), f"must be a list of trackers, such as [wandb] (got {show(given)})")
        ]
    sections: list[NamedSection] = []
    problems: list[Problem] = []
    for place, item in enumerate(given):
        found = _settle_tracker({"name": item} if isinstance(item, str) else item, factories, folders)
        if isinstance(found, NamedSection) and found.name not in {section.name for section in sections}:
            sections.append(found)
        elif isinstance(found, NamedSection):
            problems.append(Problem(("logging", "trackers", str(place)), f"{found.name} is there twice: remove one"))
        else:
            problems += [Problem(("logging", "trackers", str(place), *path[1:]), message) for path, message in found]
    return {**logging, "trackers": tuple(sections)}, problems


def _settle_tracker(
    item: object, factories: Mapping[str, Factory], folders: Sequence[Path]
) -> NamedSection | list[Problem]:
    """One tracker's section, or what is wrong with it; the path of a problem begins with ``trackers``."""
    model = choose_model("trackers", item, factories, folders)
    if isinstance(model, Problem):
        return [model]
    values = dict(item) if isinstance(item, Mapping) else {}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        return [Problem(("trackers", *path), message) for path, message in translate(error, values, model, _ALONE)]
