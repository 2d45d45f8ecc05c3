"""What is silenced, while threads come and go."""

from contextlib import ExitStack

import mujoco

from metarl_jax.tasks.adapters.noise import mujoco_silenced


def test_mujoco_is_silent_until_the_last_thread_has_left_and_then_as_before() -> None:
    """Each device steps its bodies in a thread of its own; the first to come need not be the last to go."""
    before = mujoco.get_mju_user_warning()
    first, second = ExitStack(), ExitStack()
    first.enter_context(mujoco_silenced())
    silent = mujoco.get_mju_user_warning()
    assert silent is not before
    second.enter_context(mujoco_silenced())
    first.close()
    assert mujoco.get_mju_user_warning() is silent
    second.close()
    assert mujoco.get_mju_user_warning() is before
