"""Gymnax is optional: without it all else works, and what needs it says how to get it."""

import sys

import pytest

from metarl_jax.config import config_from_dict
from metarl_jax.runs.build import build
from metarl_jax.tasks import FAMILIES, minatar_variants
from metarl_jax.tasks.adapters.gymnax import load_gymnax
from tests.helpers import metarl


@pytest.fixture(autouse=True)
def without_gymnax(monkeypatch):
    monkeypatch.setitem(sys.modules, "gymnax", None)  # importing it raises ImportError


@pytest.mark.parametrize("name", [name for name in FAMILIES if name.startswith("minatar")])
def test_its_families_can_be_configured_but_not_built(name):
    config = config_from_dict({"tasks": {"name": name}, "policy": {"name": "conv"}, "algorithm": {"name": "maml"}})
    with pytest.raises(ValueError, match=r"-MinAtar'.*pip install metarl-jax\[gymnax\]"):
        build(config)


@pytest.mark.parametrize("call", [lambda: load_gymnax("CartPole-v1"), minatar_variants])
def test_asking_for_it_says_what_to_install(call):
    with pytest.raises(ValueError, match=r"needs gymnax .*: pip install metarl-jax\[gymnax\]"):
        call()


def test_the_command_does_not_import_it(tmp_path):
    """A module of this name that cannot be imported changes nothing."""
    (tmp_path / "gymnax.py").write_text("raise SystemExit('imported')\n")
    listed = metarl("list", cwd=tmp_path)  # the working directory comes first in the path of `python -m`
    assert (listed.returncode, listed.stderr) == (0, "")
    assert "minatar_games" in listed.stdout
