"""Tables of the committed results."""

from pathlib import Path

from metarl_jax.studies import comparisons
from metarl_jax.studies import episodes as of_episodes
from metarl_jax.studies.results import read

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def method(name: str) -> str:
    """A method beside pretraining and a random initialisation on Finn's navigation: returns and what they cost."""
    names = [name] if name == "pretraining" else [name, "pretraining"]
    return comparisons.overview(read(_RESULTS / "comparison_navigation.json"), names)


def comparison(name: str) -> str:
    """All methods of a comparison."""
    return comparisons.overview(read(_RESULTS / f"comparison_{name}.json"))


def episodes(name: str) -> str:
    """Methods that adapt within a trial: what each of its episodes earns."""
    return of_episodes.overview(read(_RESULTS / f"{name}.json"))
