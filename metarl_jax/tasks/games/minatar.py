"""MinAtar games (Young and Tian, 2019) as families: variants of one game, or several games with one held out.

The games are gymnax's, on a screen of 10 x 10 pixels. Played as published but for what a task changes: how often the
last action sticks, which button does what, whether the screen is mirrored, and how fast things move.
"""

import itertools
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np

from metarl_jax.checks import checked
from metarl_jax.tasks.adapters.gymnax import GymnaxParams, gymnax_family, load_gymnax
from metarl_jax.tasks.choices import checked_choice
from metarl_jax.types import (
    Array,
    EnvState,
    Fraction,
    Key,
    PositiveInt,
    PyTree,
    Screen,
    Task,
    TaskFamily,
)

Game = Literal["asterix", "breakout", "freeway", "space_invaders"]
GAMES: tuple[Game, ...] = get_args(Game)
GYMNAX_NAMES = {"asterix": "Asterix", "breakout": "Breakout", "freeway": "Freeway", "space_invaders": "SpaceInvaders"}
MAX_PLANES = 7

# Timers in frames. Asterix spawns every two moves, as published (10 and 5): with a slower spawning its move timer would
# be ramped down to 0, where gymnax's entities stop for good. Breakout has no timer.
PACES: dict[str, list[dict[str, int | bool]]] = {
    "asterix": [
        {"init_move_interval": frames, "init_spawn_speed": 2 * frames, "ramping": ramping}
        for frames in (3, 4, 5, 6)
        for ramping in (True, False)
    ],
    "breakout": [{}],
    "freeway": [{"player_speed": frames} for frames in (2, 3, 4)],
    "space_invaders": [
        {"enemy_move_interval": move, "enemy_shot_interval": shot} for move in (8, 10, 12, 14) for shot in (8, 10, 12)
    ],
}


class Controls(NamedTuple):
    """What is between the player and the game.

    Attributes:
      sticky: ``[]`` probability that the game repeats the last action instead of taking a new one.
      actions: ``[A]`` the game's action that each of the policy's actions stands for.
      is_mirrored: ``[]`` boolean; left and right of the screen are exchanged, the buttons are not.
    """

    sticky: Array
    actions: Array
    is_mirrored: Array


class VariantTask(NamedTuple):
    """A variant of a game: ``controls``, and ``params``, gymnax's parameters of the game (timers, in frames)."""

    controls: Controls
    params: GymnaxParams


class GameTask(NamedTuple):
    """A game: ``controls``, and ``game``, ``[]`` its index in ``GAMES``."""

    controls: Controls
    game: Array


class PlayState(NamedTuple):
    """``game``: the state of what is played; ``last_action``: ``[]`` what it was last given."""

    game: EnvState
    last_action: Array


@checked
def minatar_variants(
    *,
    game: Game = "breakout",
    horizon: PositiveInt = 200,
    max_sticky: Fraction = 0.2,
    permuted_actions: bool = True,
    mirrored: bool = True,
    varied_pace: bool = True,
) -> TaskFamily:
    """Variants of one MinAtar game, some of them held out.

    A variant permutes the actions, mirrors the screen or not, repeats the last action with a probability uniform in
    ``[0, max_sticky]`` (MinAtar's own is 0.1), and sets the game's pace. A quarter of the layouts (a permutation and a
    mirroring) is held out, or of the paces if there is only one layout. The action of an episode before its first is 0.

    Args:
      game: which one; it is played with its minimal set of actions: 5 in asterix, 3 in breakout and freeway, 4 in
        space_invaders.
      horizon: steps per episode.
      max_sticky: upper end of the probability that an action is ignored and the last one repeated.
      permuted_actions: each task has its own order of actions.
      mirrored: half of the tasks exchange left and right of the screen.
      varied_pace: tasks differ in the intervals, in frames, of movement and spawning (asterix: 3 to 6 and twice that,
        with or without the game getting faster), of the player's moves (freeway: 2 to 4), of the enemies' moves and
        shots (space_invaders: 8 to 14 and 8 to 12). Breakout has one pace.

    Returns:
      The family; observations are planes ``[10, 10, C]`` of 0 and 1, actions one of ``A``.

    Raises:
      ValueError: if gymnax is not installed, or a value is out of range.

    Example:
      >>> family = minatar_variants(game="breakout")
      >>> family.observation_shape, family.action.size
      ((10, 10, 4), 3)
    """
    env = load_gymnax(f"{GYMNAX_NAMES[game]}-MinAtar")
    paces = [env.default_params.replace(**pace) for pace in (PACES[game] if varied_pace else [{}])]
    layouts = _layouts(env.num_actions, permuted_actions, mirrored)
    (train_layouts, test_layouts), (train_paces, test_paces) = _split(layouts), (paces, paces)
    if len(layouts) == 1:
        train_paces, test_paces = _split(paces)

    def sampler(layouts: list, paces: list) -> Callable[[Key], VariantTask]:
        layout_table, pace_table = _table(layouts), _table(paces)

        def sample(key: Key) -> VariantTask:
            key_controls, key_pace = jax.random.split(key)
            return VariantTask(_draw_controls(layout_table, max_sticky, key_controls), _draw(pace_table, key_pace))

        return sample

    sample = sampler(train_layouts, train_paces)
    return _through_controls(
        gymnax_family(
            env,
            sample=sample,
            params=lambda task: task.params,
            horizon=horizon,
            sample_held_out=sampler(test_layouts, test_paces) if len(layouts) * len(paces) > 1 else sample,
        )
    )


@checked
def minatar_games(
    *,
    held_out: Game = "breakout",
    horizon: PositiveInt = 200,
    max_sticky: Fraction = 0.2,
    permuted_actions: bool = False,
    mirrored: bool = False,
) -> TaskFamily:
    """Three MinAtar games for meta-training, a fourth for meta-testing.

    All are played with MinAtar's full set of six actions (none, left, up, right, down, fire), in which those that a
    game has no use for do nothing. Screens have seven planes, the last of them empty in games with fewer; the player is
    always in plane 0.

    Args:
      held_out: the game for meta-testing.
      horizon: steps per episode.
      max_sticky: each task repeats the last action with a probability uniform between 0 and this.
      permuted_actions: each task has its own order of actions.
      mirrored: half of the tasks exchange left and right of the screen.

    Returns:
      The family; observations are planes ``[10, 10, 7]`` of 0 and 1, actions one of 6.

    Raises:
      ValueError: if gymnax is not installed, or a value is out of range.

    Example:
      >>> family = minatar_games(held_out="freeway")
      >>> GAMES[int(family.sample_held_out(jax.random.key(0)).game)]
      'freeway'
    """
    envs = [load_gymnax(f"{GYMNAX_NAMES[name]}-MinAtar", use_minimal_action_set=False) for name in GAMES]
    layouts = _table(_layouts(envs[0].num_actions, permuted_actions, mirrored))

    def sampler(games: Iterable[int]) -> Callable[[Key], GameTask]:
        indices = jnp.array(list(games))

        def sample(key: Key) -> GameTask:
            key_controls, key_game = jax.random.split(key)
            return GameTask(_draw_controls(layouts, max_sticky, key_controls), _draw(indices, key_game))

        return sample

    own = GAMES.index(held_out)
    sample, sample_held_out = sampler(i for i in range(len(GAMES)) if i != own), sampler([own])
    games = [gymnax_family(env, sample=sample, sample_held_out=sample_held_out, horizon=horizon) for env in envs]
    return _through_controls(_switch(games))


def _switch(games: list[TaskFamily]) -> TaskFamily:
    """One family of several: ``task.game`` says which is played. The state holds one of each, the others rest."""

    def pad(planes: Array) -> Array:
        return jnp.pad(planes, ((0, 0), (0, 0), (0, MAX_PLANES - planes.shape[-1])))

    def reset(task: GameTask, key: Key) -> tuple[EnvState, Array]:
        states, screens = zip(*[game.reset(task, key) for game in games], strict=True)
        return states, jnp.stack([pad(screen) for screen in screens])[task.game]

    def step(task: GameTask, state: EnvState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        def play(i: int) -> tuple[EnvState, Array, Array, Array]:
            after, planes, reward, terminated = games[i].step(task, state[i], action, key)
            return (*state[:i], after, *state[i + 1 :]), pad(planes), reward, terminated

        return jax.lax.switch(task.game, [lambda i=i: play(i) for i in range(len(games))])

    return games[0]._replace(reset=reset, step=step, observation_shape=(10, 10, MAX_PLANES))


def _through_controls(family: TaskFamily) -> TaskFamily:
    """The same games, played through ``task.controls``; an action that does not exist earns NaN."""

    def show(controls: Controls, planes: Array) -> Array:
        return jnp.where(controls.is_mirrored, planes[:, ::-1], planes)

    def reset(task: Task, key: Key) -> tuple[EnvState, Array]:
        game, planes = family.reset(task, key)
        return PlayState(game, jnp.zeros((), int)), show(task.controls, planes)

    def step(task: Task, state: PlayState, action: Array, key: Key) -> tuple[EnvState, Array, Array, Array]:
        key_sticky, key_game = jax.random.split(key)
        choice, is_valid = checked_choice(action, family.action.size)
        sticks = jax.random.uniform(key_sticky) < task.controls.sticky
        applied = jnp.where(sticks, state.last_action, task.controls.actions[choice])
        game, planes, reward, terminated = family.step(task, state.game, applied, key_game)
        after = PlayState(game, applied)
        return after, show(task.controls, planes), jnp.where(is_valid, reward, jnp.nan), terminated

    return family._replace(reset=reset, step=step, picture=Screen())


def _layouts(num_actions: int, permuted: bool, mirrored: bool) -> list[tuple[np.ndarray, bool]]:
    """All orders of the actions and mirrorings that tasks may have; the published game is the first."""
    orders = itertools.permutations(range(num_actions)) if permuted else [range(num_actions)]
    return [(np.array(order), flip) for order, flip in itertools.product(orders, (False, True)[: 1 + mirrored])]


def _split(items: list) -> tuple[list, list]:
    """Three quarters for training, the rest for testing, always the same; a single one is in both."""
    if len(items) == 1:
        return items, items
    shuffled = [items[i] for i in np.random.default_rng(0).permutation(len(items))]
    num_held_out = max(1, len(items) // 4)
    return shuffled[num_held_out:], shuffled[:num_held_out]


def _table(items: list) -> PyTree:
    """Trees of numbers, stacked: ``[N, ...]``."""
    return jax.tree.map(lambda *leaves: jnp.array(leaves), *items)


def _draw(table: PyTree, key: Key) -> PyTree:
    """One of the rows."""
    row = jax.random.randint(key, (), 0, jax.tree.leaves(table)[0].shape[0])
    return jax.tree.map(lambda column: column[row], table)


def _draw_controls(layouts: PyTree, max_sticky: float, key: Key) -> Controls:
    key_layout, key_sticky = jax.random.split(key)
    return Controls(max_sticky * jax.random.uniform(key_sticky), *_draw(layouts, key_layout))
