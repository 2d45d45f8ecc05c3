"""What factories refuse at construction, and the one exception they do it with."""

import pickle

import pytest

from metarl_jax.checks import Refusal
from metarl_jax.config import ConfigError
from metarl_jax.snapshot import CheckpointError

# One exception.


def test_a_refusal_says_what_was_refused_and_why() -> None:
    refusal = pickle.loads(pickle.dumps(Refusal("horizon", -1, "must be greater than 0")))
    assert (refusal.name, refusal.value, refusal.remedy) == ("horizon", -1, "must be greater than 0")
    assert str(refusal) == "horizon = -1: must be greater than 0"


@pytest.mark.parametrize("error", [ConfigError("a: x", "b: y"), CheckpointError("a: x\nb: y")])
def test_every_refusal_is_of_one_type_and_survives_pickling(error: Refusal) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert isinstance(copy, Refusal)
    assert type(copy) is type(error)
    assert str(copy) == copy.remedy == "a: x\nb: y"
