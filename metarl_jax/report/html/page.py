"""The page: which sections there are, in which order, and the template that they fill."""

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version

from jinja2 import Environment, PackageLoader, StrictUndefined

from metarl_jax.report.html.adaptation import adaptation
from metarl_jax.report.html.blocks import Section
from metarl_jax.report.html.episodes import episodes
from metarl_jax.report.html.material import Material
from metarl_jax.report.html.settings import overview, provenance, settings
from metarl_jax.report.html.study import studies
from metarl_jax.report.html.training import health, learning, optimisation, time_split

SECTIONS: tuple[Callable[[Material], Section | None], ...] = (
    overview,
    studies,
    learning,
    adaptation,
    episodes,
    health,
    optimisation,
    time_split,
    settings,
    provenance,
)
"""In the order of the page; one that has nothing to show is None."""


def page(material: Material, title: str) -> str:
    """All of a report as one page of HTML, which loads nothing.

    Args:
      material: what it is about.
      title: of the page, text.

    Returns:
      The page; whatever names and configs hold is escaped.
    """
    return html([section for make in SECTIONS if (section := make(material)) is not None], title)


def html(sections: Sequence[Section], title: str) -> str:
    """A page of some sections."""
    environment = Environment(
        loader=PackageLoader("metarl_jax.report", "html"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    made = f"metarl {version('metarl-jax')}, {datetime.now().astimezone():%Y-%m-%d %H:%M}"
    return environment.get_template("page.html.j2").render(title=title, sections=sections, made=made)
