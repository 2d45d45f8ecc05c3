"""The run that tests of training compare with."""

from pathlib import Path

import pytest

from tests.helpers import start


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "whole"
    start(directory)
    return directory
