"""``metarl render``: where the picture goes."""

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
    deep = tmp_path / "deep" / "er.png"
    for output, there in ((None, run_dir / "render.png"), (elsewhere, elsewhere), (deep, deep)):
        draw_run(run, run_dir, output, None, 0)
        assert capsys.readouterr().out.splitlines()[0] == f"picture: {there}"
        assert there.is_file()
    with pytest.raises(ConfigError, match=r"pic\.txt: end the name of a picture of navigation_finn in \.png"):
        draw_run(run, run_dir, tmp_path / "new" / "pic.txt", None, 0)
    assert not (tmp_path / "new").exists()
