"""A body in three dimensions: two episodes in Brax's viewer, as one page for the browser."""

import html
from pathlib import Path
from types import SimpleNamespace

import jax

from metarl_jax.checks import checked
from metarl_jax.tasks.brax_adapter import PhysicsState
from metarl_jax.tasks.drawing import body_env
from metarl_jax.tasks.locomotion import BodyName
from metarl_jax.types import require

_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{title}</title></head>
<body style="margin: 0; font-family: sans-serif">
{panels}
</body>
</html>
"""
_PANEL = """<h2 style="margin: 0.5em; font-size: 1em">{label}</h2>
<iframe title="{label}" style="border: 0; width: 100%; height: {height}px" srcdoc="{viewer}"></iframe>
"""
_HEIGHT = 480  # pixels of a viewer


@checked
def view_body(
    body: BodyName,
    states_before: PhysicsState,
    states_after: PhysicsState,
    path: str | Path,
    labels: tuple[str, str] = ("before adaptation", "after adaptation"),
) -> None:
    """Save two episodes, one above the other, as a page with Brax's viewer: turn, zoom, pause.

    The page holds the motion; the viewer itself is fetched by the browser, which needs a network for that.

    Args:
      body: a key of ``locomotion.BODIES``.
      states_before: physics states of one episode with a leading axis ``T`` (``BraxState.physics``).
      states_after: the same of another one.
      path: the HTML file to write.
      labels: title of the upper and of the lower panel.

    Raises:
      ValueError: if ``body`` is unknown or ``path`` does not end in ``.html``.

    Example:
      >>> from tempfile import TemporaryDirectory
      >>> standing = body_env("hopper").reset(jax.random.key(0)).pipeline_state
      >>> still = jax.tree.map(lambda leaf: leaf[None], standing)
      >>> with TemporaryDirectory() as folder:
      ...     view_body("hopper", still, still, f"{folder}/still.html")
    """
    from brax.io import html as brax_html

    require(Path(path).suffix == ".html", "path", str(path), "name a file that ends in .html")
    env = body_env(body)
    system = env.sys.tree_replace({"opt.timestep": env.dt})  # of the viewer's clock: a state for each step
    panels = [
        _PANEL.format(
            label=html.escape(label),
            height=_HEIGHT,
            viewer=html.escape(brax_html.render(system, _frames(states), "100vh", colab=False)),
        )
        for label, states in zip(labels, (states_before, states_after), strict=True)
    ]
    Path(path).write_text(_PAGE.format(title=html.escape(body), panels="".join(panels)), encoding="utf-8")


def _frames(states: PhysicsState) -> list[SimpleNamespace]:
    """One state for each step, with what the viewer reads: where the links are."""
    where = jax.device_get(states.x)
    return [SimpleNamespace(x=jax.tree.map(lambda leaf, t=t: leaf[t], where)) for t in range(len(where.pos))]
