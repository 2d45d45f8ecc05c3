"""How good each estimator of the inner surrogate is, against exact values on a small Markov decision process.

The process has few enough trajectories to write all of them down, so the expectation and the variance of an estimated
Hessian are sums, not simulations; the exact return comes from dynamic programming and shares nothing with them. What
depends on a finite sample in a nonlinear way, the meta-gradient, is simulated.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Ge, MinLen

from metarl_jax.checks import checked
from metarl_jax.ops.returns import discounted_return
from metarl_jax.ops.surrogates import Estimator, make_surrogate
from metarl_jax.types import Array, Key, NonNegativeFloat, PositiveInt, Seed

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


class Process(NamedTuple):
    """A finite Markov decision process with ``S`` states, ``A`` actions and ``T`` steps.

    Attributes:
      start: ``[S]`` probabilities of the first state.
      transition: ``[S, A, S]`` probabilities.
      reward: ``[S, A]``.
      horizon: T.
    """

    start: Array
    transition: Array
    reward: Array
    horizon: int


class Paths(NamedTuple):
    """All trajectories of a process: ``states`` and ``actions``, ``[N, T]``."""

    states: Array
    actions: Array


@checked
def random_process(
    key: Key, num_states: PositiveInt = 3, num_actions: PositiveInt = 2, horizon: PositiveInt = 3
) -> Process:
    """Draw a process: Dirichlet(1) transitions, standard normal rewards.

    Args:
      key: decides everything.
      num_states: S.
      num_actions: A.
      horizon: T.

    Returns:
      The process.

    Example:
      >>> random_process(jax.random.key(0)).transition.shape
      (3, 2, 3)
    """
    keys = jax.random.split(key, 3)
    start = jax.random.dirichlet(keys[0], jnp.ones(num_states))
    transition = jax.random.dirichlet(keys[1], jnp.ones(num_states), (num_states, num_actions))
    return Process(start, transition, jax.random.normal(keys[2], (num_states, num_actions)), horizon)


def all_paths(process: Process) -> Paths:
    """Write down every trajectory.

    Args:
      process: with ``(S A)**T`` trajectories; keep it small.

    Returns:
      The paths.

    Example:
      >>> all_paths(random_process(jax.random.key(0))).states.shape
      (216, 3)
    """
    num_states, num_actions = process.reward.shape
    steps = list(itertools.product(range(num_states), range(num_actions)))
    paths = np.array(list(itertools.product(steps, repeat=process.horizon)))
    return Paths(jnp.asarray(paths[..., 0]), jnp.asarray(paths[..., 1]))


def values(process: Process, logits: Array) -> Array:
    """State values by dynamic programming, ``V_t(s) = sum_a pi(a|s) (r(s, a) + sum_s' P(s'|s, a) V_{t+1}(s'))``.

    Args:
      process: the process.
      logits: ``[S, A]`` of the policy.

    Returns:
      ``[T, S]`` undiscounted.
    """
    pi = jax.nn.softmax(logits)
    value, rows = jnp.zeros(len(process.start)), []
    for _ in range(process.horizon):
        value = jnp.sum(pi * (process.reward + process.transition @ value), axis=1)
        rows.append(value)
    return jnp.stack(rows[::-1])


def exact_return(process: Process, logits: Array) -> Array:
    """The expected return of a policy, exactly; its derivatives are what the estimators are after.

    Args:
      process: the process.
      logits: ``[S, A]`` of the policy.

    Returns:
      ``[]``.
    """
    return jnp.vdot(process.start, values(process, logits)[0])


def path_log_probs(process: Process, logits: Array, paths: Paths) -> Array:
    """Log-probability of every trajectory under a policy; ``[N]``."""
    states, actions = paths
    moves = jnp.log(process.transition[states[:, :-1], actions[:, :-1], states[:, 1:]]).sum(axis=1)
    return jnp.log(process.start[states[:, 0]]) + moves + _log_policy(logits, paths).sum(axis=1)


@checked
def path_surrogates(estimator: Estimator, process: Process, sampling: Array, paths: Paths) -> Any:
    """The surrogate of every trajectory as a function of the policy, as a return to maximise.

    DiCE gets the rewards themselves, as published; the others exact advantages, ``G_t - V_t(s_t)``.

    Args:
      estimator: its name.
      process: the process.
      sampling: ``[S, A]`` logits that the trajectories are sampled with.
      paths: of ``N`` trajectories.

    Returns:
      ``logits -> [N]``.
    """
    surrogate = make_surrogate(estimator)
    reward = process.reward[paths.states, paths.actions]
    one = jnp.ones(reward.shape)
    gain = discounted_return(reward.T, jnp.zeros(len(reward)), one.T, one.T, 1.0).T
    baseline = values(process, sampling)[jnp.arange(process.horizon), paths.states]
    advantage = gain if estimator == "dice" else gain - baseline
    sampled = _log_policy(sampling, paths)

    def every(logits: Array) -> Array:
        def one_path(log_prob: Array, old: Array, weight: Array, mask: Array) -> Array:
            column = (log_prob[:, None], old[:, None], weight[:, None], mask[:, None])
            return -process.horizon * surrogate(*column)  # the surrogates are means over the steps to minimise

        return jax.vmap(one_path)(_log_policy(logits, paths), sampled, advantage, one)

    return every


def _log_policy(logits: Array, paths: Paths) -> Array:
    return jax.nn.log_softmax(logits)[paths.states, paths.actions]


@checked
def check_gradients(
    estimators: Sequence[Estimator] = ESTIMATORS,
    *,
    sample_sizes: Annotated[Sequence[PositiveInt], MinLen(1)] = (10, 100, 1000),
    repeats: Annotated[int, Ge(2)] = 500,
    inner_lr: NonNegativeFloat = 0.5,
    seed: Seed = 0,
) -> dict[str, Any]:
    """Bias and spread of each estimator's Hessian and meta-gradient, relative to the size of the exact ones.

    The exact meta-gradient is that of ``J(theta + alpha grad J(theta))``; the estimate takes its inner step, its
    Hessian and its outer gradient from samples.

    Args:
      estimators: names.
      sample_sizes: episodes per estimate.
      repeats: simulated meta-gradients per sample size.
      inner_lr: alpha.
      seed: draws the process, the policy and the samples.

    Returns:
      A JSON object: ``sample_sizes``, and per estimator ``hessian_bias`` (of any sample size, exact), and
      ``hessian_spread``, ``meta_gradient_bias``, ``meta_gradient_spread`` with a number for each sample size. Spreads
      are standard deviations; all are norms divided by the exact quantity's.

    Raises:
      ValueError: if an estimator, a size or a count is out of range.

    Example:
      >>> with jax.enable_x64(True):
      ...     result = check_gradients(["likelihood_ratio", "taypo2"], sample_sizes=[10], repeats=10)
      >>> [round(result["estimators"][name]["hessian_bias"], 6) > 0 for name in ("likelihood_ratio", "taypo2")]
      [True, False]
    """
    key_process, key_policy, key_samples = jax.random.split(jax.random.key(seed), 3)
    process = random_process(key_process)
    logits = jax.random.normal(key_policy, process.reward.shape)
    return {
        "process": {"states": 3, "actions": 2, "horizon": process.horizon, "seed": seed},
        "inner_lr": inner_lr,
        "repeats": repeats,
        "sample_sizes": list(sample_sizes),
        "estimators": {
            name: _check(name, process, logits, sample_sizes, repeats, inner_lr, key_samples) for name in estimators
        },
    }


def _check(
    estimator: Estimator,
    process: Process,
    logits: Array,
    sample_sizes: Sequence[int],
    repeats: int,
    inner_lr: float,
    key: Key,
) -> dict[str, Any]:
    paths, size = all_paths(process), logits.size
    surrogates = path_surrogates(estimator, process, logits, paths)
    probability = jnp.exp(path_log_probs(process, logits, paths))

    @jax.jit
    def tables() -> tuple[Array, Array, Array, Array]:
        exact = jax.hessian(lambda x: exact_return(process, x))(logits).reshape(size, size)
        gradients = jax.jacobian(surrogates)(logits).reshape(-1, size)
        hessians = jax.hessian(surrogates)(logits).reshape(-1, size, size)
        return exact, gradients, hessians, jax.grad(_adapted_return(process, inner_lr))(logits).ravel()

    @partial(jax.jit, static_argnums=1)
    def simulate(keys: Array, draws: int) -> Array:
        def one(key: Key) -> Array:
            return _meta_gradient(process, paths, logits, gradients, hessians, inner_lr, key, draws)

        return jax.vmap(one)(keys)

    exact, gradients, hessians, exact_meta = tables()
    mean = jnp.tensordot(probability, hessians, axes=1)
    variance = jnp.tensordot(probability, jnp.square(hessians - mean), axes=1).sum()
    result: dict[str, Any] = {"hessian_bias": float(jnp.linalg.norm(mean - exact) / jnp.linalg.norm(exact))}
    rows = []
    for n, draws in enumerate(sample_sizes):
        keys = jax.random.split(jax.random.fold_in(key, n), repeats)
        estimates = simulate(keys, draws)
        bias = jnp.linalg.norm(estimates.mean(axis=0) - exact_meta)
        spread = jnp.sqrt(estimates.var(axis=0).sum())
        size_of_meta = jnp.linalg.norm(exact_meta)
        rows.append((jnp.sqrt(variance / draws) / jnp.linalg.norm(exact), bias / size_of_meta, spread / size_of_meta))
    names = ("hessian_spread", "meta_gradient_bias", "meta_gradient_spread")
    return result | {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}


def _adapted_return(process: Process, inner_lr: float) -> Any:
    def adapted(logits: Array) -> Array:
        step = jax.grad(lambda x: exact_return(process, x))(logits)
        return exact_return(process, logits + inner_lr * step)

    return adapted


def _meta_gradient(
    process: Process,
    paths: Paths,
    logits: Array,
    gradients: Array,
    hessians: Array,
    inner_lr: float,
    key: Key,
    draws: int,
) -> Array:
    """``(I + alpha H) g'`` with the Hessian and the step from one sample and the outer gradient from another."""
    key_inner, key_outer = jax.random.split(key)
    inner = jax.random.categorical(key_inner, path_log_probs(process, logits, paths), shape=(draws,))
    adapted = logits + inner_lr * gradients[inner].mean(axis=0).reshape(logits.shape)
    outer = jax.random.categorical(key_outer, path_log_probs(process, adapted, paths), shape=(draws,))
    chosen = Paths(paths.states[outer], paths.actions[outer])
    objective = path_surrogates("likelihood_ratio", process, adapted, chosen)
    outer_gradient = jax.grad(lambda x: objective(x).mean())(adapted).ravel()
    return outer_gradient + inner_lr * hessians[inner].mean(axis=0) @ outer_gradient
