"""Evaluations with given means, as ``metarl evaluate`` writes them."""

from typing import Any


def evaluation(mean: list[float]) -> dict[str, Any]:
    """Of two tasks that lie one above and one below the mean."""
    settings = {
        "num_tasks": 40,
        "num_inner_steps": len(mean) - 1,
        "episodes_per_task": 20,
        "step_sizes": [0.1, 0.05, 0.05],
        "adaptation": "gradient steps",
    }
    return {
        "checkpoint": 7,
        "per_task_return": [[x - 1.0, x + 1.0] for x in mean],
        "gradient_steps": list(range(len(mean))),
        "mean_return": mean,
        "ci_low": mean,
        "ci_high": mean,
        "settings": settings,
    }


# Finn et al. (2017), half-cheetah direction: MAML after 0..3 steps, a random initialisation, the oracle.
MAML, RANDOM, ORACLE = [-50.7, 293.2, 313.5, 315.7], [-35.7, 21.8, 62.3, 86.2], [442.7]


def run(mean: list[float]) -> dict[str, Any]:
    """One seed of a study of learning."""
    random = {"random_initialisation": evaluation(RANDOM[: len(mean)])}
    row = {"iteration": 1.0, "env_steps": 1.0, "return_pre": 0.5, "return_post": 1.0, "iteration_seconds": 1.0}
    return {"seed": 1, "evaluation": evaluation(mean) | random, "curve": [row]}
