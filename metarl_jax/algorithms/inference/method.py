"""An update of a method that acts on beliefs: PPO for what acts, then the bound for what infers."""

from collections.abc import Callable
from typing import NamedTuple

import jax

from metarl_jax.algorithms.inference.bonuses import Bonuses
from metarl_jax.algorithms.inference.elbo import DECODER
from metarl_jax.algorithms.inference.learner import Learner, learn
from metarl_jax.algorithms.inference.novelty import NOVELTY
from metarl_jax.algorithms.inference.replay import experience_of, record
from metarl_jax.algorithms.memory.ppo import PPO, ppo_epochs
from metarl_jax.networks.belief import ENCODER
from metarl_jax.types import Belief, Info, Key, Params, Percept, PyTree, TrainState, Trajectory


class Shown(NamedTuple):
    """What the half of a policy that acts is shown: in a trajectory, it takes the percept's place."""

    percept: Percept
    belief: PyTree


class Method(NamedTuple):
    """What acts and what infers, and how each is trained.

    Attributes:
      belief: of the policy.
      ppo: how it learns to act, from beliefs as data.
      learner: how the beliefs are learned.
      bonuses: what PPO sees beside the rewards.
      episodes_per_task: trials of each task.
    """

    belief: Belief
    ppo: PPO
    learner: Learner
    bonuses: Bonuses
    episodes_per_task: int

    def init_params(self, init_policy: Callable[[Key], Params], key: Key) -> Params:
        """The policy's parameters, with those of the decoders and of the novelty beside them."""
        key_policy, key_decoder, key_novelty = jax.random.split(key, 3)
        params = {**init_policy(key_policy), DECODER: self.learner.elbo.model.init(key_decoder)}
        novelty = self.learner.novelty
        return params if novelty is None else {**params, NOVELTY: novelty.init(key_novelty)}

    def init_opt_state(self, params: Params) -> PyTree:
        """Of both optimisers."""
        inferring, acting = _apart(params)
        return {"policy": self.ppo.optimizer.init(acting), "inference": self.learner.optimizer.init(inferring)}

    def init_aux(self) -> PyTree:
        """Running moments of the rewards and the bonuses, of those that need them."""
        return {"reward": self.ppo.no_moments(), "bonus": self.bonuses.no_moments()}

    def step(self, state: TrainState, trials: Trajectory, keys: Key, axis_name: str | None) -> tuple[TrainState, Info]:
        """PPO with the beliefs that acted, as data; then inference learns, from these trials and those kept."""
        inferring, acting = _apart(state.params)
        opt_state, update = dict(state.opt_state), state.step
        experience = experience_of(trials)
        believed = jax.lax.stop_gradient(self.belief.infer(state.params, experience.percept))
        reward, bonus_moments, bonuses = self.bonuses.add(
            trials.reward, inferring, experience, believed, state.aux["bonus"], update, axis_name
        )
        shown = Shown(trials.percept, jax.tree.map(lambda x: x[:-1], believed))
        acting, opt_state["policy"], reward_moments, acted = ppo_epochs(
            self.ppo,
            acting,
            opt_state["policy"],
            state.aux["reward"],
            Trajectory._make([shown, *trials._replace(reward=reward)[1:]]),
            jax.random.split(keys[0])[0],
            update,
            axis_name,
        )
        replay = record(state.local, experience, update)
        inferring, opt_state["inference"], learned = learn(
            self.learner, inferring, acting, opt_state["inference"], replay, self._of_trials(keys), update, axis_name
        )
        aux = {"reward": reward_moments, "bonus": bonus_moments}
        new_state = TrainState({**acting, **inferring}, opt_state, aux, update, replay)
        return new_state, {**acted, **learned, **bonuses}

    def _of_trials(self, keys: Key) -> Key:
        """One key for each trial of each task, apart from PPO's."""
        of_task = jax.vmap(lambda key: jax.random.split(jax.random.split(key)[1], self.episodes_per_task))
        return of_task(keys).reshape(-1)


def _apart(params: Params) -> tuple[Params, Params]:
    """What infers, with all that is trained beside it, and what acts."""
    inferring = {name: params[name] for name in (ENCODER, DECODER, NOVELTY) if name in params}
    return inferring, {name: part for name, part in params.items() if name not in inferring}
