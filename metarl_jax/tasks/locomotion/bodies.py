"""What the locomotion families share: Brax's bodies, when they have fallen, and a reward made of their velocity."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from metarl_jax.checks import checked
from metarl_jax.tasks.adapters.brax import Backend, BraxState, PhysicsState, brax_family, load_env, torso_velocity
from metarl_jax.tasks.adapters.physics import Physics
from metarl_jax.tasks.beyond import faster_than
from metarl_jax.tasks.seen import seen_as
from metarl_jax.types import (
    Array,
    Key,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Task,
    TaskFamily,
    require,
)

BodyName = Literal["half_cheetah", "ant", "walker", "hopper", "humanoid", "swimmer"]


class Body(NamedTuple):
    """A body that can be a task family's.

    Attributes:
      env: Brax's name of it.
      fallen: ``(physics) -> []`` boolean: an episode ends there; None if it cannot fall.
      alive_bonus: reward of a step that the original environment gives to a body that stands.
    """

    env: str
    fallen: Callable[[PhysicsState], Array] | None
    alive_bonus: float


def outside(value: Array, low: float, high: float) -> Array:
    """Whether ``value`` is outside ``(low, high)``; NaN is.

    Example:
      >>> outside(jnp.array([0.5, 2.0, jnp.nan]), 0.0, 1.0).tolist()
      [False, True, True]
    """
    return ~((value > low) & (value < high))


def height(physics: PhysicsState) -> Array:
    """Height of the torso, in metres; ``[]``."""
    return physics.x.pos[0, 2]


BODIES: dict[BodyName, Body] = {
    "half_cheetah": Body("halfcheetah", None, 0.0),
    "ant": Body("ant", lambda physics: outside(height(physics), 0.2, 1.0), 1.0),
    "walker": Body(
        "walker2d", lambda physics: outside(height(physics), 0.8, 2.0) | outside(physics.q[2], -1.0, 1.0), 1.0
    ),
    "hopper": Body(
        "hopper", lambda physics: outside(height(physics), 0.7, jnp.inf) | outside(physics.q[2], -0.2, 0.2), 1.0
    ),
    "humanoid": Body("humanoid", lambda physics: outside(height(physics), 1.0, 2.0), 5.0),
    "swimmer": Body("swimmer", None, 0.0),
}


def forward_or_backward(key: Key) -> Array:
    """A direction along x: +1 or -1; ``[]``."""
    return jax.random.rademacher(key, (), float)


def direction_in_the_plane(key: Key) -> Array:
    """A unit vector along the ground, uniform on the circle; ``[2]``."""
    angle = jax.random.uniform(key, (), float, 0.0, 2.0 * jnp.pi)
    return jnp.stack([jnp.cos(angle), jnp.sin(angle)])


@checked
def target_velocity(min_velocity: float, max_velocity: float) -> Callable[[Key], Array]:
    """A sampler of velocities along x, uniform between two; ``[]``, m/s.

    Args:
      min_velocity: lowest target velocity, m/s.
      max_velocity: highest target velocity, m/s.

    Raises:
      ValueError: if they are not finite or not in order.

    Example:
      >>> target_velocity(1.0, 1.0)(jax.random.key(0)).item()
      1.0
    """
    require(
        max_velocity >= min_velocity,
        "max_velocity",
        max_velocity,
        f"must be at least min_velocity = {min_velocity:g} m/s",
    )
    return lambda key: jax.random.uniform(key, (), float, min_velocity, max_velocity)


class Locomotion(NamedTuple):
    """What makes a locomotion family the one it is; its users have no say in it.

    Attributes:
      body: a key of ``BODIES``.
      sample: ``(key) -> task`` for training.
      objective: ``(task, velocity [3], next) -> []``, with the torso's mean velocity over the step in m/s.
      terminates: an episode ends when the body has fallen.
      physics: ``(task) -> Physics``; the body's own if None.
      sample_held_out: ``(key) -> task`` for meta-testing; ``sample`` if None.
      sample_beyond: ``(key) -> task`` out of the training distribution, if there are such tasks.
      num_tasks: how many there are, if these few are all, in meta-testing too.
    """

    body: BodyName
    sample: Callable[[Key], Task]
    objective: Callable[[Task, Array, PhysicsState], Array]
    terminates: bool = True
    physics: Callable[[Task], Physics] | None = None
    sample_held_out: Callable[[Key], Task] | None = None
    sample_beyond: Callable[[Key], Task] | None = None
    num_tasks: int | None = None


@checked
def hold_velocity(
    body: BodyName, min_velocity: float, max_velocity: float, bonus: float = 0.0, terminates: bool = True
) -> Locomotion:
    """Tasks of running at a hidden velocity v*: the objective is ``bonus - |v - v*|`` with v along x.

    Args:
      body: a key of ``BODIES``.
      min_velocity: lowest v*, m/s.
      max_velocity: highest v*, m/s; out of distribution, v* is up to half as far again above it.
      bonus: reward of each step.
      terminates: an episode ends when the body has fallen.

    Returns:
      The definition, for :func:`locomotion_family`.

    Raises:
      ValueError: if the velocities are not finite or not in order.

    Example:
      >>> float(hold_velocity("ant", 0.0, 3.0, bonus=1.0).objective(2.0, jnp.array([1.5, 0.0, 0.0]), None))
      0.5
    """
    return Locomotion(
        body,
        target_velocity(min_velocity, max_velocity),
        lambda target, velocity, next: bonus - jnp.abs(velocity[0] - target),
        terminates=terminates,
        sample_beyond=faster_than(min_velocity, max_velocity),
    )


@checked
def locomotion_family(
    definition: Locomotion,
    *,
    horizon: PositiveInt = 200,
    backend: Backend = "mujoco",
    action_scale: PositiveFloat = 1.0,
    control_cost: NonNegativeFloat = 0.0,
    observe_position: bool = False,
) -> TaskFamily:
    """A family of one body that rewards ``objective - control_cost ||action||^2``.

    Args:
      definition: the body and its tasks.
      horizon: steps per episode.
      backend: the physics engine: spring, generalized, positional, mjx, or mujoco (native speed on CPUs).
      action_scale: the policy output that maps to full torque; larger outputs are clipped.
      control_cost: weight of the squared norm of the action, after scaling and clipping.
      observe_position: the torso's place, x, y and z in metres, follows the rest of the observation, as in PEARL's and
        VariBAD's half-cheetah (20 numbers); where one has come to tells of the task, so it makes the tasks easier.

    Example:
      >>> jump = Locomotion("hopper", jax.random.uniform, lambda task, velocity, next: task * velocity[2])
      >>> locomotion_family(jump, horizon=100).observation_shape
      (11,)
    """
    body = BODIES[definition.body]
    env = load_env(body.env, backend)
    dt = float(env.dt)

    def reward(task: Task, previous: PhysicsState, action: Array, next: PhysicsState) -> Array:
        velocity = torso_velocity(previous, next, dt)
        return definition.objective(task, velocity, next) - control_cost * jnp.sum(jnp.square(action))

    def fallen(task: Task, physics: PhysicsState) -> Array:
        return jnp.array(False) if body.fallen is None else body.fallen(physics)

    family = brax_family(
        env,
        sample=definition.sample,
        sample_held_out=definition.sample_held_out,
        sample_beyond=definition.sample_beyond,
        reward=reward,
        terminated=fallen if definition.terminates else None,
        physics=definition.physics,
        horizon=horizon,
        action_scale=action_scale,
    )._replace(num_tasks=definition.num_tasks)
    return seen_as(family, _with_place) if observe_position else family


def _with_place(task: Task, state: BraxState, observation: Array) -> Array:
    """What is observed, and the torso's place."""
    return jnp.concatenate([observation, state.physics.x.pos[0]])
