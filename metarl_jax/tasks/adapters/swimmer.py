"""Brax's swimmer for MuJoCo's engines, which its own class does not let it have."""

from typing import Any

from brax.envs import swimmer
from brax.envs.base import PipelineEnv


class Swimmer(swimmer.Swimmer):
    """Brax's swimmer, stepped by ``mjx`` too: the same model, start and reward.

    Brax's class takes ``generalized`` alone, whose fluid forces JAX no longer traces; MuJoCo has fluids of its own.

    Example:
      >>> Swimmer().backend
      'mjx'
    """

    def __init__(self, *, backend: str = "mjx", **kwargs: Any) -> None:
        super().__init__(backend="generalized" if backend == "mjx" else backend, **kwargs)
        if backend == "mjx":
            PipelineEnv.__init__(self, self.sys, backend, self._n_frames, self._debug)
