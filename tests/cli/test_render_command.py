"""``metarl render``: where the picture goes."""

import errno
from pathlib import Path

import pytest

from metarl_jax.cli.render import draw_run
from metarl_jax.config import ConfigError
from tests.helpers import untrained


def test_a_picture_goes_into_the_run_directory_or_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = untrained({"name": "navigation_finn", "horizon": 2}, {"name": "maml"})
    run_dir, elsewhere = tmp_path / "run", tmp_path / "mine.png"
    run_dir.mkdir()

    def draw(positions: object, path: Path, *arguments: object, **more: object) -> None:
        path.write_text("")

    monkeypatch.setattr("metarl_jax.report.pictures.artists.draw_paths", draw)
    for output, there in ((None, run_dir / "render.png"), (elsewhere, elsewhere)):
        draw_run(run, run_dir, output, None, 0)
        assert capsys.readouterr().out.splitlines()[0] == f"picture: {there}"
        assert there.is_file()

    def read_only(positions: object, path: Path, *arguments: object, **more: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("metarl_jax.report.pictures.artists.draw_paths", read_only)
    with pytest.raises(ConfigError, match=r"render\.png: Read-only file system; .* with --output"):
        draw_run(run, run_dir, None, None, 0)
    with pytest.raises(OSError, match=r"mine\.png"):  # the user named it: any other place is theirs to choose
        draw_run(run, run_dir, elsewhere, None, 0)
