"""Core types: plain records of arrays, and plain records of functions.

Axis names used in every docstring of this package:

    M  tasks in a meta-batch          B  episodes collected per task
    T  time steps in an episode       K  inner (adaptation) steps; K + 1 stages of data

Code that works inside one task sees ``[T, B, ...]``; ``jax.vmap`` adds the task axis ``M`` outside.
"""

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import jax
import numpy as np
from annotated_types import Ge, Gt, Le, Lt

from metarl_jax.checks import require as require

Array = jax.Array
Key = jax.Array
PyTree = Any
Params = Any
"""A pytree of arrays."""
Task = Any
"""A pytree of arrays that describes one task. Traced data: a new task never recompiles."""
EnvState = Any
Carry = Any

# Ranges of hyperparameters, written once in a factory's signature. The config reads them from there.
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
PositiveInt = Annotated[int, Gt(0)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0)]
NonNegativeFloat = Annotated[float, Ge(0)]
Fraction = Annotated[float, Ge(0), Le(1)]
OpenFraction = Annotated[float, Gt(0), Lt(1)]

AUTO = "auto"
TaskChunk = PositiveInt | Literal["auto"] | None
"""How many tasks at once: so many, as many as the device's memory allows, or what suits the kind of device."""


class Percept(NamedTuple):
    """What a policy may see at one step.

    Attributes:
      observation: ``[..., *observation_shape]``.
      previous_action: ``[..., action_size]`` for continuous, ``[...]`` for discrete actions.
      previous_reward: ``[...]`` the reward that the previous action earned.
      done: ``[...]`` 1.0 on the first step of an episode, else 0.0.
    """

    observation: Array
    previous_action: Array
    previous_reward: Array
    done: Array


class Context(NamedTuple):
    """Transitions, in any order.

    Attributes:
      observation: ``[..., *observation_shape]`` before the action.
      outcome: what the policy saw next: the action, its reward and the observation that followed or, where ``done``
        is 1, that of the next episode's start.
      valid: ``[...]`` 1.0 where a transition counts, 0.0 where there is none.
    """

    observation: Array
    outcome: Percept
    valid: Array


class Trajectory(NamedTuple):
    """``B`` episodes of one task, time first.

    Attributes:
      percept: ``[T, B, ...]`` what the policy saw before acting.
      action: ``[T, B, action_size]`` (or ``[T, B]``, discrete): the policy's output, before scaling and clipping.
      reward: ``[T, B]``, zero where ``mask`` is zero.
      discount: ``[T, B]`` 0.0 where the step ended the episode by termination, else 1.0. Reaching the
        time limit is not termination.
      mask: ``[T, B]`` 1.0 at the steps that count: while the episode runs, 0.0 after it has terminated; 0.0 throughout
        an episode in which the environment failed, which is left out as a whole.
      taken: ``[T, B]`` 1.0 where a step was taken in the environment, whether it counts or not.
      log_prob: ``[T, B]`` log-probability (density) of ``action`` under the sampling policy.
      dist_params: ``[T, B, ...]`` the sampling policy's distribution.
      state: ``[T, B, ...]`` of the environment after each step, if it was kept, else ``()``.
      success: ``[T, B]`` whether the state after each step is a success; None unless a function of the family says so.
      final_percept: ``[B, ...]`` what the policy would have seen at step ``T``.
    """

    percept: Percept
    action: Array
    reward: Array
    discount: Array
    mask: Array
    taken: Array
    log_prob: Array
    dist_params: PyTree
    state: EnvState
    success: Array | None
    final_percept: Percept


class Batch(NamedTuple):
    """One stage of data, ready for a loss: constants as far as gradients go.

    Attributes:
      trajectory: the ``B`` episodes.
      advantage: ``[T, B]`` normalised over the valid steps of this task and stage.
      value_target: ``[T, B]`` the return that a learned critic is fitted to.
    """

    trajectory: Trajectory
    advantage: Array
    value_target: Array


class Episodes(NamedTuple):
    """``B`` episodes of one task as somebody recorded them, time first; what follows an episode's end is not looked at.

    Attributes:
      observation: ``[T + 1, B, *observation_shape]``, the last one that of the end.
      action: ``[T, B, action_size]`` (or ``[T, B]``, discrete): the policy's output, before scaling and clipping.
      reward: ``[T, B]``.
      length: ``[B]`` steps that each episode took, at most ``T``.
      terminated: ``[B]`` 1.0 where the task itself ended the episode, 0.0 where the time limit did.
    """

    observation: Array
    action: Array
    reward: Array
    length: Array
    terminated: Array


class Agent(NamedTuple):
    """What adaptation yields: parameters, and whatever a memory-based policy carries (``()`` for MAML)."""

    params: Params
    carry: Carry


class Distribution(NamedTuple):
    """A family of distributions as functions of a pytree of parameters with any leading axes.

    Attributes:
      sample: ``(dist_params, key) -> action``.
      log_prob: ``(dist_params, action) -> [...]``.
      entropy: ``(dist_params) -> [...]``.
      kl: ``(p, q) -> [...]`` the divergence ``KL(p || q)``, in nats.
      mode: ``(dist_params) -> action``: the most likely one, that of a deterministic agent.
    """

    sample: Callable[[PyTree, Key], Array]
    log_prob: Callable[[PyTree, Array], Array]
    entropy: Callable[[PyTree], Array]
    kl: Callable[[PyTree, PyTree], Array]
    mode: Callable[[PyTree], Array]


class Parts(NamedTuple):
    """Where in a policy's parameters a method finds what it needs: paths, each with all that is below it.

    Attributes:
      head: the last layer of the policy: what ANIL adapts.
      critic: what belongs to the value function alone, by any name; none if no value is learned.
      context: inputs that are parameters: what CAVIA adapts.
      memory: what a memory is written and read with.

    Example:
      >>> from metarl_jax.networks import mlp_policy
      >>> mlp_policy((2,), ActionSpec(2), hidden_sizes=(8,), critic_hidden_sizes=(8,)).parts
      Parts(head=('mean/Dense_1',), critic=('value',), context=(), memory=())
    """

    head: tuple[str, ...] = ()
    critic: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()


class Belief(NamedTuple):
    """A policy that acts on what it believes of its task, taken apart.

    Attributes:
      infer: ``(params, percept [T, B, ...]) -> belief [T, B, ...]`` after each step of trials that begin with a blank
        memory, with gradients: parameters of a diagonal Gaussian, whose prior is the standard one.
      decide: ``(params, percept [T, B, ...], belief) -> (dist_params, value)``, from which no gradient reaches the
        belief; it needs none of the parameters at ``parts.memory``.
      size: numbers of the latent.
    """

    infer: Callable[[Params, Percept], PyTree]
    decide: Callable[[Params, Percept, PyTree], tuple[PyTree, Array]]
    size: int


class Policy(NamedTuple):
    """A policy and its value function as pure functions of one parameter tree.

    Attributes:
      init: ``(key) -> params``.
      initial_carry: ``(batch_size) -> carry``; ``()`` for a memoryless policy.
      act: ``(params, carry, percept [B, ...], key) -> (action, log_prob, dist_params, carry)``.
      evaluate: ``(params, carry, percept [T, B, ...]) -> (dist_params [T, B, ...], value [T, B])``.
      distribution: functions of ``dist_params``.
      parts: paths of the parameters that methods look for.
      unroll: ``(params, carry, percept [T, B, ...]) -> (dist_params, value, carry)``: ``evaluate`` that also gives
        the carry after the last step; None for a memoryless policy.
      observe: ``(params, observation [..., *observation_shape], mask [...], axis_name) -> params``: what the policy
        counts of the observations of an update, of all devices, where ``mask`` is 1; None if it counts nothing.
      from_context: ``(params, context [T, B], observation [T, B, ...]) -> dist_params [T, B, ...]``: what it would do
        at observation ``t`` if it remembered the first ``t`` transitions of the context and nothing else; None if it
        cannot be asked so.
      belief: its two halves, if what it remembers is a distribution over tasks; None otherwise.
    """

    init: Callable[[Key], Params]
    initial_carry: Callable[[int], Carry]
    act: Callable[[Params, Carry, Percept, Key], tuple[Array, Array, PyTree, Carry]]
    evaluate: Callable[[Params, Carry, Percept], tuple[PyTree, Array]]
    distribution: Distribution
    parts: Parts = Parts()
    unroll: Callable[[Params, Carry, Percept], tuple[PyTree, Array, Carry]] | None = None
    observe: Callable[[Params, Array, Array, str | None], Params] | None = None
    from_context: Callable[[Params, "Context", Array], PyTree] | None = None
    belief: Belief | None = None

    @property
    def has_critic(self) -> bool:
        """Whether ``value`` is learned; without a critic it is zero."""
        return bool(self.parts.critic)


class ActionSpec(NamedTuple):
    """The actions a family takes: ``size`` real numbers, or one of ``size`` integers if ``discrete``."""

    size: int
    discrete: bool = False


class Paths(NamedTuple):
    """A family drawn as the paths of some episodes on a plane.

    Attributes:
      position: ``(observation [..., n]) -> [..., 2]``.
      goal: ``(task) -> [2]``, a place to mark; none if None.
      walls: ``(task) -> lines``, each ``[points, 2]``; none if None.
    """

    position: Callable[[Array], Array] = lambda observation: observation[..., :2]
    goal: Callable[[Task], Array] | None = None
    walls: Callable[[Task], Sequence[Any]] | None = None


class Body(NamedTuple):
    """A family drawn as a body that moves, one episode.

    Attributes:
      model: a ``mujoco.MjModel``: what it looks like. Link ``i`` is its body ``i + 1``.
      poses: ``(state) -> (position [..., L, 3], rotation [..., L, 4])`` of all links, in metres and unit quaternions
        ``(w, x, y, z)``.
      dt: seconds that a step takes.
    """

    model: Any
    poses: Callable[[EnvState], tuple[Array, Array]]
    dt: float


class Screen(NamedTuple):
    """A family drawn as the screens of a game, one episode.

    Attributes:
      planes: ``(observation) -> [..., height, width, planes]`` of 0 and 1; each plane gets a colour.
    """

    planes: Callable[[Array], Array] = lambda observation: observation


class Pulls(NamedTuple):
    """A bandit, drawn as how often a memory pulls which arm.

    Attributes:
      mean_reward: ``(task) -> [arms]`` what each pays.
    """

    mean_reward: Callable[[Task], Array]


Picture = Paths | Body | Screen | Pulls
Success = Literal["termination"] | Callable[[Task, EnvState], Array]


class TaskFamily(NamedTuple):
    """A distribution over tasks that share observations, actions and horizon.

    Attributes:
      sample: ``(key) -> Task``, a training task.
      sample_held_out: ``(key) -> Task``, a task for meta-testing.
      reset: ``(task, key) -> (state, observation)``: one fresh episode.
      step: ``(task, state, action, key) -> (state, observation, reward, terminated)``; ``terminated`` is a
        boolean scalar, true when the task itself ends the episode (not at the time limit).
      observation_shape: shape of one observation.
      action: what ``step`` takes.
      horizon: number of steps after which an episode is cut off.
      on_host: ``step`` calls the host, so the more episodes go side by side, the cheaper is each.
      sample_beyond: ``(key) -> Task``, a task out of the training distribution; None if there are none.
      sample_validation: ``(key) -> Task``, a task to choose checkpoints by, apart from both; None: a further draw of
        ``sample``.
      success: what makes an episode a success, so that evaluation can give the rate: ``termination``, where a step that
        terminates has reached the goal, or ``(task, state) -> []``, which has to be true after some step; None if
        nothing does.
      optimum: ``(task) -> []``, the exact expected return of an episode under the best policy that knows the task;
        None if it cannot be computed.
      bayes_optimum: ``(episodes) -> [episodes]`` numpy float64, computed on the host: the exact expected return of each
        episode of a trial under the policy that does not know the task and makes the trial's total largest. None if it
        cannot be computed; of so many episodes, if the function gives None.
      optimal_action: ``(task, state, time) -> action`` of one who knows the task, at step ``time`` ``[]`` of the
        episode; None if it is not known.
      privileged_size: how many of the last numbers of a (flat) observation only a critic may see: the policy's factory
        takes it.
      task_size: how many of these, the last, describe the task.
      num_tasks: how many tasks there are, where meta-testing draws from the same few as training; None otherwise.
      picture: how ``metarl render`` draws it; None if it cannot be drawn.
      must_be_finite: ``(state) -> numbers`` of which one that turns infinite or NaN tells that the environment failed:
        the whole state, unless all the rest follows from a part.
      control: ``(action) -> control``: what the environment is given for one action of the policy, scaled and clipped,
        so that an exported policy can do the same on a robot; None if that is the action itself.
      valid_actions: ``(observation [..., *observation_shape]) -> [..., n]`` booleans: which of ``n`` discrete actions
        may be taken; None if all may.
    """

    sample: Callable[[Key], Task]
    sample_held_out: Callable[[Key], Task]
    reset: Callable[[Task, Key], tuple[EnvState, Array]]
    step: Callable[[Task, EnvState, Array, Key], tuple[EnvState, Array, Array, Array]]
    observation_shape: tuple[int, ...]
    action: ActionSpec
    horizon: int
    on_host: bool = False
    sample_beyond: Callable[[Key], Task] | None = None
    sample_validation: Callable[[Key], Task] | None = None
    success: Success | None = None
    optimum: Callable[[Task], Array] | None = None
    bayes_optimum: Callable[[int], np.ndarray | None] | None = None
    optimal_action: Callable[[Task, EnvState, Array], Array] | None = None
    privileged_size: int = 0
    task_size: int = 0
    num_tasks: int | None = None
    picture: Picture | None = None
    must_be_finite: Callable[[EnvState], PyTree] = lambda state: state
    control: Callable[[Array], Array] | None = None
    valid_actions: Callable[[Array], Array] | None = None


class TrainState(NamedTuple):
    """Everything that changes during training; a checkpoint holds exactly this.

    Attributes:
      params: the meta-parameters (theta).
      opt_state: state of the outer optimiser.
      aux: adaptive coefficients of the method (ProMP's KL penalties); ``()`` if it has none.
      step: ``[]`` int32, finished outer updates.
      local: what the devices keep each of its own, such as a replay of trials; ``()`` if nothing. Every leaf has a
        leading axis of items, which the devices of a mapped update share evenly, in order: each sees its own, and alone
        all of them. The rest of the state is the same on every device.
    """

    params: Params
    opt_state: PyTree
    aux: PyTree
    step: Array
    local: PyTree = ()


Info = dict[str, Array]
"""Scalars (or ``[K + 1]`` vectors) to log."""


StepSizeRule = Literal["constant", "finn"]
TestPolicy = Literal["stochastic", "deterministic"]


class Adaptation(NamedTuple):
    """How a method adapts to a task, and the way to more or less of it.

    Attributes:
      unit: what adaptation is counted in: a ``gradient step``, an ``episode`` of experience, or what a method of a new
        kind does.
      trained: units per task that training adapts by.
      stages_per_update: batches of ``episodes_per_task`` episodes that an update collects in each task.
      with_budget: ``(units, episodes_per_task, step_size_rule) -> MetaAlgorithm``: the method whose ``adapt`` goes
        through 0..units. ``constant`` goes on with the last step size of training, ``finn`` halves the first after the
        first step; steps without a size ignore the rule.
      step_sizes: of the units, if they have a size.
      is_trial: the units are episodes of one trial, which the policy remembers and whose returns add up.
      second_derivatives: training differentiates through gradient steps.
    """

    unit: str
    trained: int
    stages_per_update: int
    with_budget: Callable[[int, int, StepSizeRule], "MetaAlgorithm"]
    step_sizes: tuple[Array | float, ...] = ()
    is_trial: bool = False
    second_derivatives: bool = False


class MetaAlgorithm(NamedTuple):
    """A meta-learning method as pure functions, made by a factory that closes over its hyperparameters.

    Attributes:
      init: ``(key) -> TrainState``, of one device: with all items of ``local``.
      adapt: ``(params, task, key) -> (Agent, info)``: adapt to one task by interacting with it.
        ``info["return"]`` is ``[K + 1, B]``: the undiscounted return of each episode after 0..K steps;
        ``info["terminated"]``, likewise: whether the task ended it; ``info["dropped"]``: whether the environment failed
        in it, so that its return says nothing; ``info["success"]``, where a function of the family measures it:
        whether it succeeded. Inner steps taken here are constants: ``jax.grad`` of the adapted
        parameters is 0. Differentiate ``replay``.
      update: ``(state, tasks, keys, axis_name=None) -> (state, info)``: one outer update from tasks and keys with
        a leading task axis ``M``. Under ``pmap`` each device passes its share, of tasks and of ``state.local``, and the
        name of the mapped axis. ``info["return"]`` is the mean return of each stage, ``info["steps_taken"]`` counts
        those in the environment.
      collect: ``(params, task, key) -> (adapted params, stages)``: ``adapt`` with the K + 1 stages of data that it
        sampled. None if the method adapts without gradient steps, as ``replay`` is.
      replay: ``(params, stages) -> (adapted params, evaluations)``: the same K inner steps on that data as a
        differentiable function of ``params``; evaluation ``k`` is the view that the policy after ``k`` steps has of
        stage ``k`` (:class:`metarl_jax.inner.Evaluation`).
      tasks_at_once: tasks that should interact side by side; all if None.
      adaptation: how it adapts; without it, it can be trained but not evaluated.
      test: ``(params, task, key) -> info``: the same as ``adapt``, with other episodes beside those that it explores
        in: before each of the K + 1 stages as many are played by the mode of the policy, which neither adaptation nor
        memory sees, and ``info`` is of them. None if the method does not offer it.
      learn: ``(params, episodes [k, ...]) -> Agent``: the first ``k`` units of adaptation, from episodes that somebody
        else recorded, those of each unit by the policy as it was after the units before. None if it only adapts by
        interacting.

    Example:
      >>> import metarl_jax as mrl, optax
      >>> family = mrl.tasks.navigation_finn(horizon=5)
      >>> policy = mrl.networks.mlp_policy(family.observation_shape, family.action)
      >>> algorithm = mrl.algorithms.maml(family, policy, optax.adam(1e-3), episodes_per_task=3)
      >>> params = algorithm.init(jax.random.key(0)).params
      >>> _, stages = algorithm.collect(params, family.sample(jax.random.key(1)), jax.random.key(2))
      >>> gradient = jax.grad(lambda theta: algorithm.replay(theta, stages)[0]["log_std"].sum())(params)
    """

    init: Callable[[Key], TrainState]
    adapt: Callable[[Params, Task, Key], tuple[Agent, Info]]
    update: Callable[..., tuple[TrainState, Info]]
    collect: Callable[[Params, Task, Key], tuple[Params, tuple[Batch, ...]]] | None = None
    replay: Callable[[Params, tuple[Batch, ...]], tuple[Params, PyTree]] | None = None
    tasks_at_once: int | None = None
    adaptation: Adaptation | None = None
    test: Callable[[Params, Task, Key], Info] | None = None
    learn: Callable[[Params, Episodes], Agent] | None = None
