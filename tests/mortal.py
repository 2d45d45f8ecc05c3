"""A method for tests whose process can be made to die in the middle of training."""

import os
import signal
from typing import Any

import jax
import numpy as np

from metarl_jax.checks import passes_on
from metarl_jax.types import Key, MetaAlgorithm, Task, TrainState
from tests.remembering import remembering

DIES = "METARL_TEST_DIES"
"""The number of the process that is killed before its update number ``LAST_STEP``."""
LAST_STEP = 4


@passes_on(remembering)
def mortal(family: Any, policy: Any, optimizer: Any, **settings: Any) -> MetaAlgorithm:
    """``tests.remembering``, unless the process is told to die.

    Args:
      family: of point navigation.
      policy: what is trained.
      optimizer: the outer optimiser.
      **settings: of tests.remembering.
    """
    plain = remembering(family, policy, optimizer, **settings)

    def update(state: TrainState, tasks: Task, keys: Key, axis_name: str | None = None) -> Any:
        jax.debug.callback(_die, state.step)
        return plain.update(state, tasks, keys, axis_name)

    return plain._replace(update=update)


def _die(step: np.ndarray) -> None:
    if step == LAST_STEP and os.environ.get(DIES) == str(jax.process_index()):
        os.kill(os.getpid(), signal.SIGKILL)
