"""What is installed is complete without the repository."""

import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.helpers import metarl

ROOT = Path(__file__).resolve().parents[1]


def test_the_wheel_carries_the_configs_and_finds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    names = set(ZipFile(wheel).namelist())
    configs = {f"metarl_jax/configs/{path.name}" for path in (ROOT / "configs").iterdir()}
    assert configs == {name for name in names if name.startswith("metarl_jax/configs/")}
    assert {name.split("/")[0].split("-")[0] for name in names} == {"metarl_jax"}  # and what describes it

    ZipFile(wheel).extractall(tmp_path / "installed")
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "installed"))
    done = metarl("list", "--copy", "quickstart", cwd=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "empty" / "quickstart.yaml").read_bytes() == (ROOT / "configs/quickstart.yaml").read_bytes()


def test_the_source_distribution_makes_the_same_wheel(tmp_path: Path) -> None:
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    wheels = [
        next(iter(WheelBuilder(str(root)).build(directory=str(tmp_path / name), versions=["standard"])))
        for name, root in (("here", ROOT), ("there", unpacked))
    ]
    first, second = (sorted(ZipFile(wheel).namelist()) for wheel in wheels)
    assert first == second
