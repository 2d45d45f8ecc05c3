"""The Sphinx extension: blocks of a page that are made when the site is built.

A fenced block ``{made} NAME ARGUMENT`` is replaced by the Markdown that the function of this name makes.
"""

import re
from collections.abc import Callable
from typing import Any

from sphinx.application import Sphinx

from _ext import flow, formulas, reference, results

MAKERS: dict[str, Callable[..., str]] = {
    "section-keys": reference.section_keys,
    "factories": reference.factories,
    "commands": reference.commands,
    "public-names": reference.public_names,
    "method-results": results.method,
    "comparison": results.comparison,
    "episodes": results.episodes,
}
_BLOCK = re.compile(r"^```\{made\} (\S+) ?(.*)\n```$", re.MULTILINE)


def _make_blocks(app: Sphinx, page: str, source: list[str]) -> None:
    source[0] = _BLOCK.sub(lambda block: MAKERS[block[1]](*block[2].split()), source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("source-read", _make_blocks)
    app.add_directive("data-flow", flow.DataFlow)
    app.add_html_math_renderer("mathml", (formulas.inline, None), (formulas.block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
