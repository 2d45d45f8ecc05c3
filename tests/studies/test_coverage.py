"""Coverage: intervals of known coverage, and a page of both tables."""

from pathlib import Path

import numpy as np
import pytest

from metarl_jax.studies import coverage
from metarl_jax.studies.results import read


def test_the_share_that_holds_the_truth_is_counted() -> None:
    """Half of all normal numbers are below their mean; of an even number of samples that share no seed."""

    def below(scores: np.ndarray, seed: int) -> coverage.Ends:
        return np.full(len(scores), -np.inf), scores[:, 0]

    draw, truth = coverage.DISTRIBUTIONS["normal"]
    found = coverage.covered(
        draw, truth, (3,), 2_010, {"below": below, "all": lambda x, seed: (x[:, 0] - 99.0, x[:, 0] + 99.0)}
    )
    assert found == {"below": pytest.approx(0.5, abs=0.04), "all": 1.0}


@pytest.mark.parametrize("name", coverage.DISTRIBUTIONS)
def test_each_distribution_has_the_mean_that_is_said(name: str) -> None:
    draw, truth = coverage.DISTRIBUTIONS[name]
    scores = draw(np.random.default_rng(0), (400_000,))
    assert scores.mean() == pytest.approx(truth, abs=5 * scores.std() / 400_000**0.5)


def test_a_study_measures_every_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coverage, "_RESAMPLES", 50)
    monkeypatch.setattr(coverage, "_TRUTH", 1_000)
    monkeypatch.setattr(coverage, "TASKS", (10,))
    monkeypatch.setattr(coverage, "SEEDS", ((3, 10),))
    file = tmp_path / "coverage.json"
    result = coverage.study(20, file)
    assert read(file) == result
    assert result["of_a_mean"].keys() == coverage.DISTRIBUTIONS.keys()
    shares = [share for by in result["of_a_mean"].values() for share in by["10"].values()]
    assert len(shares) == 5 * len(coverage.OF_A_MEAN)
    assert min(shares) > 0.5
    runs_alone, *both = result["of_an_iqm"]["normal"]["3 x 10"].values()
    assert runs_alone < min(both)
    assert "least of all" in file.with_suffix(".md").read_text()
