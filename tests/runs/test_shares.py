"""Items are dealt out to devices in order, and nothing is lost."""

import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.checks import Refusal
from metarl_jax.runs.shares import deal, join


@pytest.mark.parametrize("num_devices", [1, 2, 3, 6])
def test_what_was_dealt_is_put_together_again(num_devices: int) -> None:
    local = {"seen": np.arange(12).reshape(6, 2), "age": jnp.arange(6), "nothing": np.zeros((0, 3))}
    shares = deal(local, num_devices)
    assert shares["seen"].shape == (num_devices, 6 // num_devices, 2)
    assert shares["age"][-1, -1] == 5
    whole = join(shares)
    for name, leaf in local.items():
        np.testing.assert_array_equal(whole[name], leaf)


def test_a_refusal_names_the_leaf_the_number_and_the_remedy() -> None:
    with pytest.raises(Refusal, match=r"state\.local\['age'\] = 6: .* by 4 devices: use a number that divides them"):
        deal({"age": jnp.arange(6)}, 4)
    with pytest.raises(Refusal, match=r"state\.local\['at'\] = .* no axis of items: keep .* in state\.aux"):
        deal({"at": jnp.int32(3)}, 1)
    assert deal((), 4) == ()
