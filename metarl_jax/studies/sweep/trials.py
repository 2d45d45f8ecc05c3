"""The trials of a study: who has which, how far they are, what they came to. Optuna keeps them, for all workers.

Whatever is read and then changed here is changed under the study's lock. A trial under way belongs to the worker that
holds the lock of its directory; the operating system takes both locks from a process that dies, so that a trial whose
directory is free can be gone on with: same number, same setting, from its checkpoints.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from metarl_jax.checks import Refusal
from metarl_jax.config import ConfigError
from metarl_jax.config.errors import show
from metarl_jax.ops.statistics import iqm
from metarl_jax.runs.directory import gone_if_refused, hold, make
from metarl_jax.studies.sweep.points import Point, num_trials, point, rounded
from metarl_jax.studies.sweep.study import Spread, Study

_LOCK = "study.lock"
_JOURNAL = "journal.log"
_TRIALS = "trials"
_SEEDS = "seeds"
_RECORD = "record"
STATES = {
    TrialState.COMPLETE: "finished",
    TrialState.PRUNED: "halved",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "unfinished",
}


class Trials(NamedTuple):
    """All trials of one study.

    Attributes:
      study: what is asked for.
      directory: where its runs are.
      records: Optuna's study.
    """

    study: Study
    directory: Path
    records: optuna.Study


class Trial(NamedTuple):
    """One setting, trained for all seeds.

    Attributes:
      number: from 0 on.
      values: its setting.
      state: of :data:`STATES`.
      scores: the objective at each comparison, by the number of updates before it; the last one counts.
      seeds: the objective of each seed at the last of these; None where it is not finite.
    """

    number: int
    values: Point
    state: str
    scores: Mapping[int, float]
    seeds: Mapping[int, float | None]

    @property
    def objective(self) -> float | None:
        """What the setting came to; None if it failed, or has not come to anything yet."""
        return self.scores[max(self.scores)] if self.scores and self.state != "failed" else None


class _Lock(JournalFileOpenLock):
    """The operating system's lock on a journal: a worker that is killed does not keep it."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def open_trials(study: Study, directory: Path, record: Mapping[str, Any]) -> Trials:
    """Open a study, or begin it.

    Args:
      study: what is asked for.
      directory: of the study, on a file system that all workers see.
      record: all that decides what is trained and compared, by key: it must not change once the study has begun.

    Raises:
      ConfigError: if the record has changed, the directory holds something else, or the database cannot be opened.
    """
    is_new = not has_begun(directory)
    if is_new and directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} exists and is not a study: choose an empty or new --dir")
    with gone_if_refused(make(directory)):
        try:
            return Trials(study, directory, _records(study, directory, record))
        except Refusal:
            if is_new:
                _remove_lock(directory)
            raise


def _remove_lock(directory: Path) -> None:
    """Leave no trace of a study that was not begun, unless another worker has begun it meanwhile."""
    with _locked(directory):
        if [path.name for path in directory.iterdir()] == [_LOCK]:
            (directory / _LOCK).unlink()


def has_begun(directory: Path) -> bool:
    """Whether a study has been opened there.

    Example:
      >>> has_begun(Path("/nowhere"))
      False
    """
    return (directory / _LOCK).exists()


def _records(study: Study, directory: Path, record: Mapping[str, Any]) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _locked(directory):
            storage: BaseStorage | str = study.storage or _open_journal(directory / _JOURNAL)
            records = optuna.create_study(
                storage=storage,
                study_name=str(directory.resolve().name),
                direction=study.objective.direction,
                load_if_exists=True,
            )
            begun = json.loads(records.user_attrs.get(_RECORD, "null"))
            if begun is None:
                records.set_user_attr(_RECORD, json.dumps(record))
    except (SQLAlchemyError, ImportError) as error:
        reason = str(error).partition("\n")[0]
        remedy = "give a URL that SQLAlchemy reads, such as sqlite:///study.db, and install the database's driver"
        raise ConfigError(f"storage: cannot be opened ({reason}); {remedy}") from error
    if begun is not None:
        _refuse_changes(directory, begun, record)
    return records


def _refuse_changes(directory: Path, begun: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    changed = sorted(key for key in begun.keys() | now.keys() if begun.get(key) != now.get(key))
    if changed:
        lines = [f"  {key}: {show(now.get(key))} now, {show(begun.get(key))} when it began" for key in changed]
        remedy = "change it back, or give the new study another --dir"
        raise ConfigError(f"{directory} holds a study that began with another file; {remedy}:\n" + "\n".join(lines))


def _open_journal(path: Path) -> JournalStorage:
    lock = _Lock(path.with_name(f"{path.name}.lock"))
    backend = JournalFileBackend(str(path), lock)
    lock.acquire()
    try:  # a full disk, or a host that lost its power, can have left half a line
        text = path.read_bytes()
        os.truncate(path, text.rfind(b"\n") + 1)
    finally:
        lock.release()
    return JournalStorage(backend)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with FileLock(directory / _LOCK):
        yield


def trial_directory(directory: Path, number: int) -> Path:
    """Where the runs of a trial are, one below it for each seed.

    Example:
      >>> trial_directory(Path("runs/study"), 7).as_posix()
      'runs/study/trials/0007'
    """
    return directory / _TRIALS / f"{number:04d}"


def read_trials(trials: Trials) -> list[Trial]:
    """All trials that have begun, by number."""
    return [_read(trials.study, frozen) for frozen in trials.records.get_trials(deepcopy=False)]


def _read(study: Study, frozen: FrozenTrial) -> Trial:
    values = {key: _decode(study, key, frozen.params[key]) for key in study.keys if key in frozen.params}
    scores = dict(frozen.intermediate_values)
    seeds = {int(seed): score for seed, score in frozen.user_attrs.get(_SEEDS, {}).items()}
    return Trial(frozen.number, values, STATES[frozen.state], scores, seeds)


def is_over(trials: Trials) -> bool:
    """Whether every trial of the budget has ended."""
    told = read_trials(trials)
    return len(told) >= num_trials(trials.study) and all(trial.state != "unfinished" for trial in told)


# Taking trials, and giving back what they came to.


def take(
    trials: Trials,
    size: int,
    rungs: Sequence[int],
    held: ExitStack,
    warn: Callable[[str], object],
    group_of: Callable[[Point], object] = lambda values: None,
) -> list[Trial]:
    """Take trials that nobody has: those that a dead worker left, those that won a comparison, and new ones.

    Trials that are passed over, since they are not of the first one's group, are there for whoever takes next.

    Args:
      trials: of the study.
      size: at most so many.
      rungs: numbers of updates at which settings are compared.
      held: keeps the trials' directories to this worker until it is closed.
      warn: called with a sentence for each trial that is taken over from a process that died.
      group_of: what settings of one program have in common.

    Returns:
      Trials of one group that are equally far, or none.
    """
    with _locked(trials.directory):
        _drop_losers(trials, rungs)
        taken: list[Trial] = []
        for number in _open_numbers(trials, size, rungs):
            if len(taken) == size:
                break
            values = _values(trials, number)
            is_of_group = not taken or group_of(values) == group_of(taken[0].values)
            if is_of_group and _keep(trials, number, held, warn):
                taken.append(_setting(trials, _asked(trials, number)))
        return taken


def _open_numbers(trials: Trials, size: int, rungs: Sequence[int]) -> Iterator[int]:
    """Trials that may be trained, whoever has them: those that have begun, then new ones.

    A sampler that learns draws no more than are taken at once.
    """
    begun = trials.records.get_trials(deepcopy=False)
    for frozen in begun:
        if frozen.state is TrialState.RUNNING and _has_won(trials, frozen, rungs):
            yield frozen.number
    most = num_trials(trials.study)
    yield from range(len(begun), min(most, len(begun) + size) if trials.study.sampler == "tpe" else most)


def _values(trials: Trials, number: int) -> Point:
    """The setting of a trial, be it drawn or not."""
    if trials.study.sampler == "tpe":
        return _setting(trials, _asked(trials, number)).values
    return point(trials.study, number)


def _asked(trials: Trials, number: int) -> optuna.Trial:
    """A trial of Optuna's; those before it that have not begun begin, too: numbers are given in order."""
    begun = trials.records.get_trials(deepcopy=False)
    missing = number + 1 - len(begun)
    return [trials.records.ask() for _ in range(missing)][-1] if missing > 0 else _resumed(trials, begun[number])


def _keep(trials: Trials, number: int, held: ExitStack, warn: Callable[[str], object]) -> bool:
    """Whether a trial's directory is this worker's now."""
    directory = trial_directory(trials.directory, number)
    held.enter_context(gone_if_refused(make(directory)))
    try:
        held.enter_context(hold(directory, warn))
    except ConfigError:
        return False
    return True


def tell(trials: Trials, number: int, iteration: int, is_last: bool, seeds: Mapping[int, float]) -> Trial:
    """Say what a trial came to, at a comparison or at its end.

    Args:
      trials: of the study.
      number: of the trial.
      iteration: updates until now.
      is_last: there are no more.
      seeds: the objective of each seed; if one is not finite, the trial has failed.

    Returns:
      The trial as it now stands.
    """
    finite = {seed: score if math.isfinite(score) else None for seed, score in seeds.items()}
    with _locked(trials.directory):
        (frozen,) = (one for one in trials.records.get_trials(deepcopy=False) if one.number == number)
        running = _resumed(trials, frozen)
        running.set_user_attr(_SEEDS, {str(seed): score for seed, score in finite.items()})
        if None in finite.values():
            trials.records.tell(number, state=TrialState.FAIL)
        else:
            score = float(iqm(list(seeds.values())))
            if iteration not in frozen.intermediate_values:  # a worker can have died right after it
                running.report(score, iteration)
            if is_last:
                trials.records.tell(number, score)
        return read_trials(trials)[number]


# Successive halving. All settings of the budget are compared at once, so that the order in which workers finish, and
# what interrupts them, changes nothing.


def halving_rungs(study: Study, num_iterations: int) -> list[int]:
    """The numbers of updates at which settings are compared, before the end.

    Example:
      >>> from metarl_jax.studies.sweep.study import Halving
      >>> halving_rungs(Study(config="maml_navigation", halving=Halving(first=10)), 100)
      [10, 30, 90]
    """
    rungs = [] if study.halving is None else [study.halving.first]
    while study.halving is not None and rungs[-1] * study.halving.factor < num_iterations:
        rungs.append(rungs[-1] * study.halving.factor)
    return rungs


def _has_won(trials: Trials, frozen: FrozenTrial, rungs: Sequence[int]) -> bool:
    """Whether a trial that is under way may go on: the last comparison that it was part of has been made."""
    passed = [rung for rung in rungs if rung in frozen.intermediate_values]
    return not passed or _is_complete(trials, passed[-1])


def _is_complete(trials: Trials, rung: int) -> bool:
    """Whether every trial of the budget has come to a comparison, or has ended before."""
    every = trials.records.get_trials(deepcopy=False)
    has_come = [one.state.is_finished() or rung in one.intermediate_values for one in every]
    return len(every) >= num_trials(trials.study) and all(has_come)


def _drop_losers(trials: Trials, rungs: Sequence[int]) -> None:
    for rung in (rung for rung in rungs if _is_complete(trials, rung)):
        every = {one.number: one for one in trials.records.get_trials(deepcopy=False)}
        scores = {
            number: one.intermediate_values[rung] for number, one in every.items() if rung in one.intermediate_values
        }
        for number in scores.keys() - winners(trials.study, scores):
            if every[number].state is TrialState.RUNNING:
                trials.records.tell(number, state=TrialState.PRUNED)


def winners(study: Study, scores: Mapping[int, float]) -> set[int]:
    """Who goes on from a comparison: the best of every ``factor``, of equals the first.

    Args:
      study: with ``halving``.
      scores: the objective by number of the trial.

    Example:
      >>> from metarl_jax.studies.sweep.study import Halving
      >>> sorted(winners(Study(config="x", halving=Halving(first=1, factor=2)), {0: 1.0, 1: 3.0, 2: 2.0, 3: 3.0}))
      [1, 3]
    """
    assert study.halving is not None
    sign = -1 if study.objective.direction == "maximize" else 1
    ranked = sorted(scores, key=lambda number: (sign * scores[number], number))
    return set(ranked[: max(1, len(ranked) // study.halving.factor)])


# Settings, as Optuna keeps them.


def _resumed(trials: Trials, frozen: FrozenTrial) -> optuna.Trial:
    return optuna.Trial(trials.records, frozen._trial_id)


def _setting(trials: Trials, running: optuna.Trial) -> Trial:
    """A trial with its setting, of which what is missing is drawn now: a worker can have died while it drew."""
    study = trials.study
    trials.records.sampler = _sampler(study, running.number)
    for key in study.keys:
        spread = _spread(study, key)
        if spread.ends is None:
            running.suggest_categorical(key, list(map(_encode, spread.choice or ())))
        else:
            running.suggest_float(key, *spread.ends, log=spread.log_uniform is not None)
    return read_trials(trials)[running.number]


def _spread(study: Study, key: str) -> Spread:
    return study.sample.get(key) or Spread(choice=study.grid[key])


class _ByNumber(optuna.samplers.BaseSampler):
    """Gives each trial the point of its number."""

    def __init__(self, study: Study) -> None:
        self._study = study

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return _encode(point(self._study, trial.number)[param_name])


def _sampler(study: Study, number: int) -> optuna.samplers.BaseSampler:
    if study.sampler == "tpe":  # other numbers draw differently, whichever worker asks
        seed = (study.sampler_seed + 1_000_003 * number) % 2**32
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return _ByNumber(study)


def _encode(value: Any) -> Any:
    """Optuna keeps numbers, text, booleans and null: a list is kept as its JSON."""
    return json.dumps(value) if isinstance(value, tuple) else value


def _decode(study: Study, key: str, kept: Any) -> Any:
    spread = _spread(study, key)
    if spread.ends is not None:
        return rounded(kept, *spread.ends)
    return next(value for value in spread.choice or () if _encode(value) == kept)
