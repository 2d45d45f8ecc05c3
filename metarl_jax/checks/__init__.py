"""What is checked at construction, and how a refusal is worded: the same words in YAML and in Python.

A factory declares in its signature what its arguments may be; :func:`checked` holds it to that, and the config reads
the same annotations. :func:`passes_on` declares where the keywords of its ``**`` go, :data:`Traced` which numbers may
be traced.
"""

from metarl_jax.checks.factories import (
    Argument,
    Traced,
    arguments,
    checked,
    is_traceable,
    passes_on,
    undeclared_keywords,
)
from metarl_jax.checks.refusal import Refusal, did_you_mean, nearest, require, some
from metarl_jax.checks.schemas import Schema, allowed, bounds, expected, fits, is_traced, schema_of

__all__ = [
    "Argument",
    "Refusal",
    "Schema",
    "Traced",
    "allowed",
    "arguments",
    "bounds",
    "checked",
    "did_you_mean",
    "expected",
    "fits",
    "is_traceable",
    "is_traced",
    "nearest",
    "passes_on",
    "require",
    "schema_of",
    "some",
    "undeclared_keywords",
]
