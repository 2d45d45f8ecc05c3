"""Brax's viewer for a body: what it refuses; what a page holds is in tests/test_render.py."""

from pathlib import Path

import jax
import pytest

from metarl_jax.tasks.drawing import body_env
from metarl_jax.tasks.viewer import view_body


@pytest.mark.parametrize(
    ("body", "name", "message"),
    [
        ("hopper", "page.gif", r"path = '.*page\.gif': name a file that ends in \.html"),
        ("snake", "page.html", "body = 'snake': must be one of .*hopper"),
    ],
)
def test_impossible_pages_are_refused(tmp_path: Path, body: str, name: str, message: str) -> None:
    standing = body_env("hopper").reset(jax.random.key(0)).pipeline_state
    still = jax.tree.map(lambda leaf: leaf[None], standing)
    with pytest.raises(ValueError, match=message):
        view_body(body, still, still, tmp_path / name)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
