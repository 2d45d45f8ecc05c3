"""Draw which arms of a bandit were pulled when, with Matplotlib."""

from pathlib import Path

import numpy as np


def draw_pulls(arms: np.ndarray, mean_reward: np.ndarray, path: str | Path, title: str = "") -> None:
    """Save, for each arm, the share of trials that pull it at each step.

    Args:
      arms: ``[n, B]`` the arm pulled at each of ``n`` steps in ``B`` trials.
      mean_reward: ``[k]`` what each arm pays on average; the best is drawn in colour.
      path: the picture to write; Matplotlib knows the format by the suffix.
      title: above the picture.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     draw_pulls(np.array([[0, 1], [1, 1]]), np.array([0.2, 0.9]), f"{folder}/pulls.png")
      ...     Path(f"{folder}/pulls.png").exists()
      True
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.0, 3.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    pulls = np.arange(1, len(arms) + 1)
    greys = np.linspace(0.35, 0.8, len(mean_reward))
    for rank, arm in enumerate(np.argsort(-mean_reward)):
        colour = "#c1572b" if rank == 0 else str(greys[rank])
        share = (arms == arm).mean(axis=1)
        name = f"{mean_reward[arm]:.2f}{' (the best)' if rank == 0 else ''}"
        axes.plot(pulls, share, color=colour, linewidth=2.2 if rank == 0 else 1.2, label=name)
    axes.set(xlabel="pull", ylabel="share of trials that pull an arm", ylim=(-0.02, 1.02))
    axes.set_title(title, fontsize=10)
    axes.locator_params(axis="x", integer=True)
    axes.legend(title="the arm pays", loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, alignment="left")
    figure.savefig(path)
