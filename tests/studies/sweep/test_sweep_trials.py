"""Who trains what: every trial once, whoever dies, and the same settings go on whatever the order."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from metarl_jax.config import ConfigError
from metarl_jax.studies.sweep.points import point
from metarl_jax.studies.sweep.study import Study
from metarl_jax.studies.sweep.trials import (
    Trial,
    Trials,
    halving_rungs,
    is_over,
    open_trials,
    read_trials,
    take,
    tell,
    trial_directory,
)

RANDOM = {"sample": {"a": {"uniform": (0.0, 1.0)}, "c": {"choice": ((1, 2), "x", None)}}, "budget": {"trials": 5}}


def study(**fields: Any) -> Study:
    return Study.model_validate({"config": "x", **fields})


def opened(folder: Path, asked: Study) -> Trials:
    return open_trials(asked, folder / "study", {"grid": asked.model_dump(mode="json")["grid"]})


@contextmanager
def worker(trials: Trials, size: int, rungs: list[int] | None = None) -> Iterator[list[Trial]]:
    """A worker, which is a thread here, with what it took; what it has not told when it ends is left by a dead one."""
    held = ExitStack()
    with ThreadPoolExecutor(1) as thread:
        try:
            yield thread.submit(take, trials, size, rungs or [], held, lambda text: None).result()
        finally:
            thread.submit(held.close).result()


def finish(trials: Trials, taken: list[Trial], score: float = 1.0) -> None:
    for trial in taken:
        tell(trials, trial.number, 10, True, {1: score, 2: score + 1})


@pytest.mark.parametrize("storage", [None, "sqlite"])
def test_what_a_dead_worker_had_is_taken_over_once_with_its_setting(tmp_path: Path, storage: str | None) -> None:
    url = None if storage is None else f"sqlite:///{tmp_path / 'study.db'}"
    asked = study(**RANDOM, storage=url)
    dead, alive = opened(tmp_path, asked), opened(tmp_path, asked)
    with worker(dead, 2) as first:
        with worker(alive, 2) as second:
            assert [trial.number for trial in (*first, *second)] == [0, 1, 2, 3]
            finish(alive, second[:1])
        with worker(alive, 9) as rest:  # trial 3 was left, 0 and 1 are in good hands
            assert [trial.number for trial in rest] == [3, 4]
            assert rest[0] == second[1]
            with worker(dead, 9) as nothing:
                assert nothing == []
            finish(alive, rest)
        assert not is_over(alive)
    with worker(alive, 9) as left:
        assert left == first
        finish(alive, left)
    assert is_over(opened(tmp_path, asked))
    told = read_trials(alive)
    assert [trial.values for trial in told] == [point(asked, number) for number in range(5)]
    assert {trial.state for trial in told} == {"finished"}
    assert told[3].seeds == {1: 1.0, 2: 2.0}
    assert told[3].objective == 1.5


def test_a_worker_that_died_while_it_drew_is_completed(tmp_path: Path) -> None:
    asked = study(**RANDOM)
    trials = opened(tmp_path, asked)
    trials.records.ask()  # and then nothing
    with worker(trials, 1) as taken:
        assert taken == [Trial(0, point(asked, 0), "unfinished", {}, {})]


def test_a_worker_that_died_while_it_told_is_told_again(tmp_path: Path) -> None:
    trials = opened(tmp_path, study(grid={"a": (1,)}))
    trials.records.ask().report(1.5, 10)
    with worker(trials, 1) as taken:
        finish(trials, taken)
    assert read_trials(trials)[0].state == "finished"


def test_tpe_draws_the_same_however_the_work_is_cut(tmp_path: Path) -> None:
    asked = study(sample={"a": {"log_uniform": (1e-3, 1.0)}}, sampler="tpe", budget={"trials": 16})
    whole, cut = opened(tmp_path / "whole", asked), opened(tmp_path / "cut", asked)
    for trials, sizes in ((whole, [4] * 4), (cut, [4, 2, 4, 4, 3, 4, 4])):
        for size in sizes:
            with worker(trials, 4) as taken:
                for trial in taken[:size]:  # the rest is left
                    tell(trials, trial.number, 10, True, {1: -((trial.values["a"] - 0.1) ** 2)})
            if size < 4:
                with worker(trials, 4 - size) as taken:
                    for trial in taken:
                        tell(trials, trial.number, 10, True, {1: -((trial.values["a"] - 0.1) ** 2)})
        assert is_over(trials)
    assert [trial.values for trial in read_trials(whole)] == [trial.values for trial in read_trials(cut)]
    assert len({trial.values["a"] for trial in read_trials(whole)}) == 16


def test_a_run_that_is_not_finite_fails_its_trial_and_nothing_else(tmp_path: Path) -> None:
    trials = opened(tmp_path, study(grid={"a": (1, 2)}))
    with worker(trials, 2) as taken:
        tell(trials, 0, 10, True, {1: 2.0, 2: float("nan")})
        finish(trials, taken[1:])
    failed, fine = read_trials(trials)
    assert (failed.state, failed.objective, failed.seeds) == ("failed", None, {1: 2.0, 2: None})
    assert fine.state == "finished"
    assert is_over(trials)


def halved(folder: Path, order: list[int], batch: int) -> list[tuple[str, list[int]]]:
    """Nine settings, of which the score is ``a``, whoever comes first; state and comparisons of each."""
    asked = study(grid={"a": tuple(map(float, range(9)))}, halving={"first": 10})
    trials, rungs = opened(folder, asked), halving_rungs(asked, 90)
    assert rungs == [10, 30]
    while not is_over(trials):
        with worker(trials, batch, rungs) as taken:
            assert taken
            assert len({len(trial.scores) for trial in taken}) == 1
            for trial in sorted(taken, key=lambda trial: order.index(trial.number)):
                rung = next((rung for rung in rungs if rung not in trial.scores), None)
                score = float("nan") if trial.number == 4 else trial.values["a"]
                tell(trials, trial.number, rung or 90, rung is None, {1: score})
    return [(trial.state, sorted(trial.scores)) for trial in read_trials(trials)]


def test_halving_compares_all_settings_whoever_comes_first(tmp_path: Path) -> None:
    expected = [("halved", [10])] * 9
    expected[4] = ("failed", [])
    expected[7:] = [("halved", [10, 30]), ("finished", [10, 30, 90])]  # two of eight went on, and one of two
    assert halved(tmp_path / "one", list(range(9)), 1) == expected
    assert halved(tmp_path / "four", list(reversed(range(9))), 4) == expected


def test_nobody_goes_on_before_all_have_been_compared(tmp_path: Path) -> None:
    asked = study(grid={"a": (1.0, 2.0, 3.0)}, halving={"first": 10})
    trials, rungs = opened(tmp_path, asked), halving_rungs(asked, 90)
    with worker(trials, 2, rungs) as taken:
        for trial in taken:
            tell(trials, trial.number, 10, False, {1: 0.0})
    with worker(trials, 1, rungs) as slow:
        with worker(trials, 3, rungs) as nothing:
            assert nothing == []
        tell(trials, slow[0].number, 10, False, {1: 5.0})
    with worker(trials, 3, rungs) as best:
        assert [trial.number for trial in best] == [2]


def test_a_study_whose_file_has_changed_is_refused_with_what_changed(tmp_path: Path) -> None:
    opened(tmp_path, study(grid={"a": (1, 2)}))
    opened(tmp_path, study(grid={"a": (1, 2)}, batch=7))
    with pytest.raises(
        ConfigError, match=r"(?s)change it back, or give.*--dir:\n  grid: \{a: \[1, 3\]\} now, \{a: \[1"
    ):
        opened(tmp_path, study(grid={"a": (1, 3)}))


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="exists and is not a study: choose an empty or new --dir"):
        opened(tmp_path, study(grid={"a": (1,)}))


def test_half_a_line_in_the_journal_is_dropped(tmp_path: Path) -> None:
    """As a full disk leaves it: what was told before is kept, and the trial can be told again."""
    asked = study(grid={"a": (1, 2)})
    trials = opened(tmp_path, asked)
    with worker(trials, 1) as taken:
        finish(trials, taken)
    with worker(trials, 1):
        pass
    journal = tmp_path / "study" / "journal.log"
    os.truncate(journal, journal.stat().st_size - 5)
    again = opened(tmp_path, asked)
    with worker(again, 2) as taken:
        assert [trial.number for trial in taken] == [1]
        finish(again, taken)
    assert is_over(opened(tmp_path, asked))


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all/study.db", "postgresql+psycopg2://localhost/x"])
def test_a_database_that_cannot_be_opened_is_a_mistake(tmp_path: Path, url: str) -> None:
    with pytest.raises(ConfigError, match=r"^storage: cannot be opened .*; give a URL that SQLAlchemy reads"):
        opened(tmp_path, study(grid={"a": (1,)}, storage=url))


def test_directories_sort_by_number() -> None:
    assert trial_directory(Path("s"), 3).as_posix() == "s/trials/0003"
