"""Tables of the committed results."""

from pathlib import Path

from metarl_jax.studies.comparisons import overview
from metarl_jax.studies.results import read

_RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def method(name: str) -> str:
    """A method beside pretraining and a random initialisation on Finn's navigation: returns and what they cost."""
    names = [name] if name == "pretraining" else [name, "pretraining"]
    return overview(read(_RESULTS / "comparison_navigation.json"), names)


def comparison(name: str) -> str:
    """All methods of a comparison."""
    return overview(read(_RESULTS / f"comparison_{name}.json"))
