"""MAML-RL in PyTorch: the loop that ``benchmarks/peers.py`` times beside ours. Extra ``peers``.

The same work, written as PyTorch wants it: environments (``torch_worlds.py``) and policies of all tasks side by side in
one tensor, ``torch.func`` over tasks, exact second derivatives. ProMP and MAML with a trust region, Gaussian policies
with tanh layers, one inner step, the linear baseline, ``gae_lambda`` 1. The trust region's products
``J^T F J v`` go through two stored linear maps: no third derivatives, and nothing is computed anew, which was a third
faster than forward mode.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import grad, vjp, vmap
from torch_worlds import WORLDS, World

Params = dict[str, Tensor]
"""``kernel_0 [i, j], bias_0 [j], kernel_1, ...``, and ``log_std [A]``; of several tasks with a leading axis."""

_TASKS_AT_ONCE = 5
"""How many tasks are differentiated together: the fastest on a CPU, of 1, 2, 5, 10 and all 40."""
_LOG_2PI = math.log(2.0 * math.pi)
_RIDGE = 1e-5


class Stage(NamedTuple):
    """Episodes of all tasks, ``[M, T, B, ...]``, as scored; ``mean`` and ``log_std [M, A]`` are those acted by."""

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    mean: Tensor
    log_std: Tensor
    advantage: Tensor
    mask: Tensor
    reward: Tensor


def init_params(sizes: tuple[int, ...], init_std: float) -> Params:
    """Glorot-uniform kernels, zero biases; layers of ``sizes``, from the observation to the action."""
    params: Params = {"log_std": torch.full(sizes[-1:], math.log(init_std))}
    for i, (inputs, outputs) in enumerate(pairwise(sizes)):
        limit = math.sqrt(6.0 / (inputs + outputs))
        params[f"kernel_{i}"] = torch.empty(inputs, outputs).uniform_(-limit, limit)
        params[f"bias_{i}"] = torch.zeros(outputs)
    return params


def mean_action(params: Params, observation: Tensor) -> Tensor:
    """``[N, O] -> [N, A]``, or ``[M, N, O] -> [M, N, A]`` with parameters of one task or of each."""
    layers, x = len(params) // 2, observation
    for i in range(layers):
        x = x @ params[f"kernel_{i}"] + params[f"bias_{i}"].unsqueeze(-2)
        x = torch.tanh(x) if i + 1 < layers else x
    return x


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Of actions ``[..., A]``; ``[...]``."""
    standard = (action - mean) * torch.exp(-log_std)
    return (-0.5 * standard**2 - log_std - 0.5 * _LOG_2PI).sum(-1)


def gaussian_kl(p_mean: Tensor, p_log_std: Tensor, q_mean: Tensor, q_log_std: Tensor) -> Tensor:
    """``KL(p || q)``; ``[...]``."""
    variance_ratio = torch.exp(2.0 * (p_log_std - q_log_std))
    distance = ((p_mean - q_mean) * torch.exp(-q_log_std)) ** 2
    return 0.5 * (variance_ratio + distance - 1.0 + 2.0 * (q_log_std - p_log_std)).sum(-1)


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Over all axes; ``[]``."""
    return (x * mask).sum() / mask.sum().clamp(min=1.0)


@torch.no_grad()
def collect(world: World, params: Params, tasks: Tensor, episodes: int, horizon: int, discount: float) -> Stage:
    """Play ``episodes`` of each task to the horizon, and score them."""
    num_tasks, action_size = len(tasks), world.sizes[1]
    log_std = params["log_std"].expand(num_tasks, -1)
    std = torch.exp(log_std)[:, None]
    state, alive = world.reset(num_tasks, episodes), torch.ones(num_tasks, episodes, dtype=torch.bool)
    steps = []
    for noise in torch.randn(horizon, num_tasks, episodes, action_size):
        observation = world.observe(state)
        mean = mean_action(params, observation)
        action = mean + std * noise
        moved, reward, ended = world.step(tasks, state, action)
        steps.append((observation, action, mean, torch.where(alive, reward, 0.0), alive.to(reward.dtype)))
        state, alive = torch.where(alive[..., None], moved, state), alive & ~ended
    observation, action, mean, reward, mask = (torch.stack(x, dim=1) for x in zip(*steps, strict=True))
    log_prob = gaussian_log_prob(mean, log_std[:, None, None], action)
    advantage = score(observation, reward, mask, discount)
    return Stage(observation, action, log_prob, mean, log_std, advantage, mask, reward)


def score(observation: Tensor, reward: Tensor, mask: Tensor, discount: float) -> Tensor:
    """Returns less a linear baseline fitted to each task's, normalised; ``[M, T, B]``."""
    tasks, horizon, episodes = reward.shape
    time = torch.arange(horizon)
    lag = time - time[:, None]
    weights = torch.where(lag >= 0, discount ** lag.clamp(min=0).to(reward.dtype), 0.0)
    returns = (weights @ reward) * mask
    clock = (time.to(reward.dtype) / 100.0)[None, :, None, None].expand(tasks, horizon, episodes, 1)
    clipped = observation.clamp(-10.0, 10.0)
    features = torch.cat([clipped, clipped**2, clock, clock**2, clock**3, torch.ones_like(clock)], dim=-1)
    x = features.flatten(1, 2).double()
    valid = x * mask.flatten(1)[..., None]
    gram = valid.mT @ valid + _RIDGE * torch.eye(x.shape[-1], dtype=x.dtype)
    fitted = torch.linalg.solve(gram, valid.mT @ returns.flatten(1)[..., None].double())
    advantage = (returns - (x @ fitted).reshape(returns.shape).to(returns.dtype)) * mask
    count = mask.sum((1, 2), keepdim=True).clamp(min=1.0)
    centred = (advantage - advantage.sum((1, 2), keepdim=True) / count) * mask
    return centred / (torch.sqrt((centred**2).sum((1, 2), keepdim=True) / count) + 1e-8)


class Learner(NamedTuple):
    """What is differentiated, of one task: stages are ``[T, B, ...]`` here."""

    inner_lr: float
    estimator: str
    clip_eps: float | None
    kl_coefficient: float

    def log_prob_and_mean(self, params: Params, stage: Stage) -> tuple[Tensor, Tensor]:
        mean = mean_action(params, stage.observation.flatten(0, 1)).reshape(stage.action.shape)
        return gaussian_log_prob(mean, params["log_std"], stage.action), mean

    def inner_loss(self, params: Params, stage: Stage) -> tuple[Tensor, Tensor]:
        log_prob, mean = self.log_prob_and_mean(params, stage)
        weight = log_prob if self.estimator == "log_likelihood" else torch.exp(log_prob - stage.log_prob)
        return -masked_mean(weight * stage.advantage, stage.mask), mean

    def adapt(self, params: Params, stage: Stage) -> tuple[Params, Tensor]:
        """Parameters after the inner step, and the mean actions before it."""
        gradient, mean = grad(self.inner_loss, has_aux=True)(params, stage)
        return {name: value - self.inner_lr * gradient[name] for name, value in params.items()}, mean

    def outer(self, params: Params, before: Stage, after: Stage) -> tuple[Tensor, Tensor]:
        """The outer loss, and how far the adapted policy is from the one that collected, in nats."""
        adapted, mean_before = self.adapt(params, before)
        log_prob, mean = self.log_prob_and_mean(adapted, after)
        ratio = torch.exp(log_prob - after.log_prob)
        gain = ratio * after.advantage
        if self.clip_eps is not None:
            clipped = torch.clamp(ratio, 1.0 - self.clip_eps, 1.0 + self.clip_eps)
            gain = torch.minimum(gain, clipped * after.advantage)
        loss = -masked_mean(gain, after.mask)
        if self.kl_coefficient:
            kl = gaussian_kl(before.mean, before.log_std, mean_before, params["log_std"])
            loss = loss + self.kl_coefficient * masked_mean(kl, before.mask)
        return loss, masked_mean(gaussian_kl(after.mean, after.log_std, mean, adapted["log_std"]), after.mask)

    def adapted_policy(self, params: Params, before: Stage, after: Stage) -> tuple[Tensor, Tensor]:
        """What the adapted policy would do on the second stage: mean and ``log_std``."""
        adapted, _ = self.adapt(params, before)
        return self.log_prob_and_mean(adapted, after)[1], adapted["log_std"]


def meta_gradient(learner: Learner, params: Params, before: Stage, after: Stage) -> tuple[Params, Tensor]:
    """Of the mean outer loss over tasks, and that loss."""

    def of_task(params: Params, before: Stage, after: Stage) -> tuple[Tensor, Tensor]:
        loss, _ = learner.outer(params, before, after)
        return loss, loss.detach()

    each = vmap(grad(of_task, has_aux=True), in_dims=(None, 0, 0), chunk_size=_TASKS_AT_ONCE)
    gradients, losses = each(params, before, after)
    return {name: value.mean(0) for name, value in gradients.items()}, losses.mean()


def make_kl_product(learner: Learner, params: Params, before: Stage, after: Stage) -> Callable[[Params], Params]:
    """``v -> J^T F J v``: the Hessian of the mean divergence of the adapted policies. ``J v`` is the pullback's own."""
    tasks = len(before.mask)
    policies = vmap(learner.adapted_policy, in_dims=(None, 0, 0))

    def of_part(one: Stage, two: Stage, params: Params) -> tuple[Tensor, Tensor]:
        return policies(params, one, two)

    parts = []
    for start in range(0, tasks, _TASKS_AT_ONCE):
        one, two = (Stage(*(x[start : start + _TASKS_AT_ONCE] for x in stage)) for stage in (before, after))
        here = partial(of_part, one, two)
        reference, pullback = vjp(here, params)
        _, pushforward = vjp(pullback, tuple(map(torch.zeros_like, reference)))
        weight = two.mask / two.mask.sum((1, 2), keepdim=True).clamp(min=1.0) / tasks
        fisher = weight[..., None] * torch.exp(-2.0 * reference[1])[:, None, None], 2.0 / tasks
        parts.append((pushforward, fisher, pullback))

    def product(v: Params) -> Params:
        images = []
        for pushforward, fisher, pullback in parts:
            (moved,) = pushforward((v,))
            images.append(pullback(tuple(f * m for f, m in zip(fisher, moved, strict=True)))[0])
        return {name: torch.stack([image[name] for image in images]).sum(0) for name in v}

    return product


def dot(a: Params, b: Params) -> Tensor:
    return torch.stack([(a[name] * b[name]).sum() for name in a]).sum()


def add(a: Params, scale: Tensor | float, b: Params) -> Params:
    return {name: value + scale * b[name] for name, value in a.items()}


def conjugate_gradient(product: Callable[[Params], Params], b: Params, steps: int) -> tuple[Params, Params]:
    """``x`` with ``A x`` about ``b``, and that image."""
    x = {name: torch.zeros_like(value) for name, value in b.items()}
    residual, direction, squared = b, b, dot(b, b)
    for _ in range(steps):
        image = product(direction)
        length = squared / dot(direction, image)
        x, residual = add(x, length, direction), add(residual, -length, image)
        squared, before = dot(residual, residual), squared
        direction = add(residual, squared / before, direction)
    return x, add(b, -1.0, residual)


def trust_region_step(
    learner: Learner, params: Params, before: Stage, after: Stage, settings: Mapping[str, Any]
) -> Params:
    """A natural-gradient step with a line search on loss and divergence; the old parameters if none is good."""
    gradient, loss = meta_gradient(learner, params, before, after)
    kl_product = make_kl_product(learner, params, before, after)
    step, image = conjugate_gradient(
        lambda v: add(kl_product(v), settings["cg_damping"], v), gradient, settings["cg_steps"]
    )
    length = torch.sqrt(2.0 * settings["max_kl"] / dot(step, image).clamp(min=1e-30))
    measure = vmap(learner.outer, in_dims=(None, 0, 0), chunk_size=_TASKS_AT_ONCE)
    for i in range(settings["max_backtracks"]):
        tried = add(params, -length * settings["backtrack_ratio"] ** i, step)
        new_loss, kl = (x.mean() for x in measure(tried, before, after))
        if new_loss < loss and kl <= settings["max_kl"]:
            return tried
    return params


def make_update(settings: Mapping[str, Any]) -> Callable[[], float]:
    """A function that does one meta-iteration and returns the mean return after adaptation.

    Args:
      settings: a config of ours, as nested mappings.
    """
    torch.manual_seed(settings["seed"])
    torch.set_num_threads(1)  # as ours: several cores are used by several devices
    method, policy, training = settings["algorithm"], settings["policy"], settings["training"]
    is_promp = method["name"] == "promp"
    world = WORLDS[settings["tasks"]["name"]](settings["tasks"]["action_scale"])
    observation_size, action_size = world.sizes
    params = init_params((observation_size, *policy["hidden_sizes"], action_size), policy["init_std"])
    learner = Learner(
        method["inner_lr"],
        method["estimator"],
        method["clip_eps"] if is_promp else None,
        method["kl_coefficient"] if is_promp else 0.0,
    )
    play = partial(
        collect,
        world,
        episodes=training["episodes_per_task"],
        horizon=settings["tasks"]["horizon"],
        discount=method["discount"],
    )
    optimizer = torch.optim.Adam(params.values(), lr=settings["optimizer"]["learning_rate"]) if is_promp else None

    def update() -> float:
        tasks = world.tasks(training["meta_batch_size"])
        before = play(params, tasks)
        adapted, _ = vmap(learner.adapt, in_dims=(None, 0), chunk_size=_TASKS_AT_ONCE)(params, before)
        after = play(adapted, tasks)
        if optimizer is None:
            params.update(trust_region_step(learner, params, before, after, method))
        else:
            for _ in range(method["num_epochs"]):
                gradient, _ = meta_gradient(learner, params, before, after)
                for name, value in params.items():
                    value.grad = gradient[name]
                optimizer.step()
        return float(after.reward.sum(1).mean())

    return update
