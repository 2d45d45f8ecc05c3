"""The documentation's build: ``python -m sphinx -W -c docs . docs/_build/html``, from the root of the repository.

The root is the source folder, so that links between pages, results, notebooks and code are the same here and wherever
Markdown is read.
"""

import os
import sys
from importlib.metadata import version as installed_version
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

project = "metarl_jax"
author = "the authors of metarl_jax"
version = release = installed_version("metarl-jax")
root_doc = "docs/index"
include_patterns = ["docs/*.md", "docs/*/*.md", "benchmarks/results/*.md", "examples/*.ipynb", "CHANGELOG.md"]
exclude_patterns = ["docs/_*", ".*", "runs", "build", "dist"]

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "_ext.pages"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the pictures are those that were committed; .ci/run executes the notebooks
suppress_warnings = ["config.cache"]

autodoc_typehints = "none"  # ranges and types of keys are in the tables, from the same annotations
autodoc_member_order = "bysource"
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_attr_annotations = False
maximum_signature_line_length = 88
add_module_names = False
python_use_unqualified_type_names = True

html_math_renderer = "mathml"
myst_update_mathjax = False
html_theme = "pydata_sphinx_theme"
html_title = "metarl_jax"
html_static_path = ["_static"]
html_extra_path = ["_extra"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_sidebars = {"docs/index": [], "docs/tutorial": []}
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
}
copyright = "the authors of metarl_jax, Apache-2.0"
