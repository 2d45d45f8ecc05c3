"""HyperX's rewards for exploring while beliefs are poor (Zintgraf et al., 2021)."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from metarl_jax.algorithms.inference.elbo import DECODER
from metarl_jax.algorithms.inference.model import Model, steps_of
from metarl_jax.algorithms.inference.novelty import NOVELTY, Novelty
from metarl_jax.algorithms.inference.replay import Experience
from metarl_jax.ops.distributions import GaussianParams
from metarl_jax.ops.moments import Moments, add_numbers, no_moments, running_std
from metarl_jax.ops.returns import masked_mean
from metarl_jax.types import ActionSpec, Array, Info, Params

SURPRISE = "surprise"


class Bonuses(NamedTuple):
    """What a step earns beside its reward, in units of its own running standard deviation.

    Attributes:
      coefs: weights at first, by name: the ``novelty`` of the state and the belief that it leads to, and its
        ``surprise``, the decoders' error given the belief before it. None if empty.
      share: ``(finished updates) -> []`` of these weights.
      novelty: the first; None without it.
      model: what errs.
      action: what a task takes.
    """

    coefs: Mapping[str, Array | float]
    share: optax.Schedule
    novelty: Novelty | None
    model: Model
    action: ActionSpec

    def no_moments(self) -> dict[str, Moments]:
        """Of the bonuses before the first update."""
        return {name: no_moments() for name in self.coefs}

    def add(
        self,
        reward: Array,
        params: Params,
        experience: Experience,
        belief: GaussianParams,
        moments: Mapping[str, Moments],
        update: Array,
        axis_name: str | None = None,
    ) -> tuple[Array, dict[str, Moments], Info]:
        """Rewards with what is added to them; ``[T, N]``.

        Args:
          reward: ``[T, N]``.
          params: of the inference.
          experience: trials ``[T, N, ...]``.
          belief: ``[T + 1, N, l]``.
          moments: of the bonuses so far.
          update: ``[]`` finished updates.
          axis_name: mapped device axis, or None.

        Returns:
          The rewards, the new moments, and an info of the mean of each bonus, before any weight.
        """
        found = {name: self._found(name, params, experience, belief) for name in self.coefs}
        mask = experience.mask
        moments = {name: add_numbers(moments[name], bonus, mask, axis_name) for name, bonus in found.items()}
        share = self.share(update)
        for name, bonus in found.items():
            reward = reward + share * self.coefs[name] * mask * bonus / running_std(moments[name])
        return reward, moments, {name: masked_mean(bonus, mask, axis_name) for name, bonus in found.items()}

    def _found(self, name: str, params: Params, experience: Experience, belief: GaussianParams) -> Array:
        if name == NOVELTY:
            assert self.novelty is not None  # for the type checker
            percept, after = jax.tree.map(lambda x: x[1:], (experience.percept, belief))
            return self.novelty.error(params[NOVELTY], percept, after)
        steps = steps_of(experience, self.action)
        each_alone = jax.tree.map(lambda x: x.reshape(1, -1, *x.shape[2:]), (belief.mean[:-1], steps))
        errors = self.model.errors(params[DECODER], *each_alone)
        return sum(errors.values(), jnp.zeros(())).reshape(steps.reward.shape)


def make_bonuses(
    coefs: Mapping[str, Array | float | None],
    decay_updates: int | None,
    novelty: Novelty | None,
    model: Model,
    action: ActionSpec,
) -> Bonuses:
    """The bonuses that have a weight, which falls linearly to zero over some updates or, if None, stays."""
    share = optax.constant_schedule(1.0)
    if decay_updates is not None:
        share = optax.linear_schedule(1.0, 0.0, decay_updates)
    return Bonuses({name: coef for name, coef in coefs.items() if coef is not None}, share, novelty, model, action)
