"""Keeping what Brax and MuJoCo print from a user's terminal and folder."""

import contextlib
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

_lock = threading.Lock()
_inside: list[Callable[[], Any]] = []
"""What puts the user's handler back, once for each thread inside: the first one's counts, the last one calls it."""


@contextlib.contextmanager
def mujoco_silenced() -> Iterator[None]:
    """Keep MuJoCo's warnings from the terminal, and from ``MUJOCO_LOG.TXT`` in the working directory."""
    with _lock:
        _inside.append(_silence() if not _inside else _inside[0])
    try:
        yield
    finally:
        with _lock:
            restore = _inside.pop()
            if not _inside:
                restore()


def _silence() -> Callable[[], Any]:
    import mujoco

    handler = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)  # a handler also stops the log file
    return lambda: mujoco.set_mju_user_warning(handler)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep Brax and MuJoCo from printing, warning, and writing ``MUJOCO_LOG.TXT`` into the working directory.

    Exceptions pass through. Not for use in several threads at once: Python's warning filters are global.
    """
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):  # mjx prints when `warp` is absent
        warnings.simplefilter("ignore")
        with mujoco_silenced():
            yield
