"""Early warnings: what goes wrong with nested optimisation shows in the metrics long before the return falls."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean, pstdev
from typing import Any

from metarl_jax.tracking.glossary import read
from metarl_jax.types import Adaptation

Row = dict[str, Any]
Check = Callable[[list[Row]], str | None]

WINDOW = 20
"""Updates that a check looks back on."""

_MAX_RATIO_ERROR = 0.01
_MAX_ENTROPY_RISE = 3.0
_MIN_EXPLAINED_VARIANCE = 0.0
_MIN_RELATIVE_CHANGE = 1e-3
_MAX_DROPPED = 0.01
_FEWEST = 5  # updates at the end of a run that tell how it ended
_CLEARLY = 3.0  # standard deviations of what one update collects


def _values(rows: list[Row], name: str) -> list[float]:
    return [value for row in rows if (value := read(row, name)) is not None]


def _skipped(rows: list[Row]) -> str | None:
    if not read(rows[-1], "skipped"):
        return None
    return (
        "the update was not finite and was skipped (episodes in which the environment failed are left out and are not "
        "the reason): shorten the inner steps (algorithm.inner_lr, algorithm.max_inner_grad_norm) or the outer one "
        "(optimizer.learning_rate, optimizer.max_grad_norm)"
    )


def _dropped(rows: list[Row], environment: str, episodes_per_update: int) -> str | None:
    dropped = sum(_values(rows, "episodes_dropped"))
    if dropped <= _MAX_DROPPED * episodes_per_update * WINDOW:  # a single one of the first few episodes is no share yet
        return None
    return (
        f"{environment} failed in {dropped / (episodes_per_update * len(rows)):.1%} of the episodes since iteration "
        f"{rows[0]['iteration']}: a state, an observation or a reward was not finite; they are left out of everything. "
        "Make its simulation safer (tasks.backend, smaller time steps, bounded actions), or let it terminate earlier"
    )


def _ratio(rows: list[Row]) -> str | None:
    error = read(rows[-1], "outer_ratio_error")
    if error is None or error <= _MAX_RATIO_ERROR:
        return None
    return (
        f"outer_ratio_error is {error:.3g}: before the first outer step every ratio must be 1, so the replayed policy "
        "is not the one that collected the data; look for randomness or state inside the policy"
    )


def _unchanged(rows: list[Row], adaptation: Adaptation | None) -> str | None:
    before, after = _values(rows, "return_pre"), _values(rows, "return_post")
    if len(rows) < WINDOW or not before or not after or len(read(rows[-1], "return_per_stage") or []) < 2:
        return None
    scale = fmean(abs(x) for x in before) + 1e-12
    if abs(fmean(after) - fmean(before)) >= _MIN_RELATIVE_CHANGE * scale:
        return None
    if adaptation is None or adaptation.step_sizes:
        remedy = "raise algorithm.inner_lr"
    else:
        remedy = f"more than one {adaptation.unit} may be needed to learn from"
    return f"adaptation changes nothing (the return stays at {fmean(before):.4g}): {remedy}"


def _critic(rows: list[Row]) -> str | None:
    explained = _values(rows, "critic_explained_variance")
    if len(explained) < WINDOW or max(explained) > _MIN_EXPLAINED_VARIANCE:
        return None
    return (
        f"the critic is dead: in {WINDOW} updates it explained none of the returns' variance "
        f"(best {max(explained):.2g}); with baseline: critic, raise optimizer.learning_rate or algorithm.critic_coef, "
        "or use baseline: linear_feature; with another baseline this alone is no trouble"
    )


def _entropy(rows: list[Row]) -> str | None:
    entropy = _values(rows, "policy_entropy")
    if len(entropy) < 2 or entropy[-1] - entropy[0] <= _MAX_ENTROPY_RISE:
        return None
    return (
        f"the policy's standard deviation explodes: its entropy rose from {entropy[0]:.4g} to {entropy[-1]:.4g} nats "
        f"in {len(rows)} updates; lower the step sizes, or bound the step (clip_eps, max_kl, optimizer.max_grad_norm), "
        "or lower algorithm.entropy_coef"
    )


def _line_search(rows: list[Row]) -> str | None:
    fractions = _values(rows, "step_fraction")
    if len(fractions) < WINDOW or any(fractions):
        return None
    return (
        f"the line search rejected every step of the last {WINDOW} updates: nothing is learned; raise "
        "algorithm.cg_damping or algorithm.max_kl, or collect more episodes"
    )


def _halved(rows: list[Row]) -> str | None:
    scales = _values(rows, "outer_step_scale")
    if len(scales) < WINDOW or max(scales) == 1:
        return None
    return (
        f"outer steps were halved in each of the last {WINDOW} updates (now to {scales[-1]:.2g} of their length): "
        "lower optimizer.learning_rate, or raise algorithm.max_outer_kl"
    )


CHECKS: tuple[Check, ...] = (_skipped, _ratio, _critic, _entropy, _line_search, _halved)


def is_lost(row: Row) -> bool:
    """Whether an update came to nothing: it was not finite, or no return of it was."""
    return bool(read(row, "skipped")) or row["return_post"] is None


def bad_end(rows: Sequence[Row]) -> str | None:
    """How a run went wrong, by its end: most of its last updates were lost, or its return is below where it began.

    Args:
      rows: all of the run's, as in ``metrics.jsonl``.

    Returns:
      A sentence; None of a run that did not.

    Example:
      >>> lost = {"iteration": 9, "return_pre": -1.0, "return_post": None, "skipped": 1.0}
      >>> (bad_end([lost] * 3) or "").partition(":")[0], bad_end([lost | {"return_post": 1.0, "skipped": 0.0}])
      ('diverged', None)
    """
    last = list(rows[-WINDOW:])
    lost = sum(map(is_lost, last))
    if 2 * lost > len(last):
        return f"diverged: {lost} of the last {len(last)} updates were not finite and changed nothing"
    before, after = _values(last, "return_pre"), _values(last, "return_post")
    first = _values(list(rows[:1]), "return_pre")
    if not first or min(len(before), len(after)) < _FEWEST or fmean(after) >= first[0] - _CLEARLY * pstdev(before):
        return None
    return f"worse than at first: the return ended at {fmean(after):.4g} and began at {first[0]:.4g}"


class HealthMonitor:
    """Looks at every row of metrics and says each kind of trouble once.

    Args:
      environment: what the tasks are called in warnings.
      episodes_per_stage: of one update, on all tasks.
      adaptation: what the method declares, if anything; else an update is taken to have one stage.

    Example:
      >>> monitor = HealthMonitor("navigation_finn", 800, None)
      >>> row = {"iteration": 3, "return_pre": 1.0, "return_post": 2.0, "skipped": 1.0}
      >>> [warning.split(":")[0] for warning in monitor(row)], list(monitor(row))
      (['iteration 3'], [])
    """

    def __init__(self, environment: str, episodes_per_stage: int, adaptation: Adaptation | None) -> None:
        self._recent: deque[Row] = deque(maxlen=WINDOW)
        episodes = episodes_per_stage * (1 if adaptation is None else adaptation.stages_per_update)
        dropped = partial(_dropped, environment=environment, episodes_per_update=episodes)
        self._left: list[Check] = [*CHECKS, partial(_unchanged, adaptation=adaptation), dropped]

    def __call__(self, row: Row) -> Iterator[str]:
        """Take the next row; yield a sentence for each new kind of trouble, with its remedy."""
        self._recent.append(row)
        for check in list(self._left):
            if trouble := check(list(self._recent)):
                self._left.remove(check)
                yield f"iteration {row['iteration']}: {trouble}"
