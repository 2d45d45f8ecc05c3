"""MinAtar families: the games against scripts played by hand, the variants against the game that they vary."""

import functools
from types import SimpleNamespace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("gymnax")

from metarl_jax.tasks.adapters.gymnax import load_gymnax
from metarl_jax.tasks.games.minatar import (
    GAMES,
    GYMNAX_NAMES,
    Controls,
    GameTask,
    VariantTask,
    minatar_games,
    minatar_variants,
)

EACH_GAME = pytest.mark.parametrize("game", GAMES)
KEY = jax.random.key(0)
NUM_ACTIONS = {"asterix": 5, "breakout": 3, "freeway": 3, "space_invaders": 4}
NUM_PLANES = {"asterix": 4, "breakout": 4, "freeway": 7, "space_invaders": 6}
USELESS = {"asterix": [5], "breakout": [2, 4, 5], "freeway": [1, 3, 5], "space_invaders": [2, 4]}  # of the six
LANES, STEPS = 3, 30  # of every script, so that each game is compiled once


@functools.cache
def console(game: str) -> SimpleNamespace:
    """A family, its compiled reset of ``LANES`` episodes and scripts of ``STEPS`` steps in each. No second tracing."""
    family = minatar_games() if game == "games" else minatar_variants(game=game)

    def script(task, state, actions, key):
        def step(state, inputs):
            t, action = inputs
            after, *seen = family.step(task, state, action, jax.random.fold_in(key, t))
            return after, (after, *seen)

        return jax.lax.scan(step, state, (jnp.arange(STEPS), actions))[1]

    script.__name__ = f"script_of_{game}"  # chex counts by name and caller; a test may play two games
    return SimpleNamespace(
        family=family,
        reset=jax.jit(jax.vmap(family.reset)),
        script=jax.jit(jax.vmap(chex.assert_max_traces(script, n=1))),
    )


@pytest.fixture(autouse=True, scope="module")
def _forget_traces():
    yield
    chex.clear_trace_counter()


def variant(game: str, *, sticky=0.0, actions=None, is_mirrored=False, **params) -> VariantTask:
    """The published game, but for what is said."""
    order = range(NUM_ACTIONS[game]) if actions is None else actions
    controls = Controls(jnp.float32(sticky), jnp.array(list(order)), jnp.array(is_mirrored))
    given = load_gymnax(f"{GYMNAX_NAMES[game]}-MinAtar").default_params.replace(**params)
    return VariantTask(controls, jax.tree.map(lambda number: jnp.array(np.asarray(number)), given))


def lanes(*trees):
    """One tree for each lane; a single one is in all."""
    trees = trees * LANES if len(trees) == 1 else trees
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def keys(seed: int = 0) -> jax.Array:
    """The same for every lane: lanes differ in the task and the actions only."""
    return jnp.stack([jax.random.key(seed)] * LANES)


def actions(*scripts: list[int]) -> jax.Array:
    """Scripts, one for each lane, with zeros behind them."""
    return jnp.array([(script + [0] * STEPS)[:STEPS] for script in (scripts * LANES if len(scripts) == 1 else scripts)])


def play(game: str, tasks, scripts, state=None, seed: int = 0):
    """``(states, planes, rewards, terminated)``, each ``[LANES, STEPS, ...]``."""
    started = console(game).reset(tasks, keys(seed))[0] if state is None else state
    return console(game).script(tasks, started, scripts, keys(100 + seed))


def start_where(game: str, condition) -> int:
    """The first seed whose episode starts with planes that fulfil the condition."""
    tasks = lanes(variant(game))
    return next(seed for seed in range(50) if condition(console(game).reset(tasks, keys(seed))[1][0]))


def steps_with(flags: jax.Array) -> list[int]:
    """When something happens, counted from 1."""
    return (np.flatnonzero(flags) + 1).tolist()


# The games.


def test_breakout_by_hand():
    """The ball falls from the upper left. Missed at step 6; or hit, a brick falls at step 11; then missed at 16.

    Rules: the ball moves diagonally; the paddle (row 9, first in column 4) throws it back where it came from if it hits
    from above, and bricks (rows 1 to 3) are worth 1 each.
    """
    seed = start_where("breakout", lambda planes: planes[3, 0, 1] == 1)
    states, planes, rewards, terminated = play(
        "breakout", lanes(variant("breakout")), actions([0], [2], [1, 1, 1, 1, 2, 2]), seed=seed
    )
    assert steps_with(terminated[0])[0] == 6
    assert not rewards[0, :6].any()
    path = [(4, 1), (5, 2), (6, 3), (7, 4), (8, 5), (8, 6), (7, 7), (6, 8), (5, 9), (4, 9), (4, 8), (5, 7), (6, 6)]
    for t, (row, column) in enumerate(path):
        assert np.argwhere(planes[1, t, ..., 1]).tolist() == [[row, column]], t
        before = (3, 0) if t == 0 else path[t - 1]
        assert np.argwhere(planes[1, t, ..., 2]).tolist() == [list(before)], t
        assert np.argwhere(planes[1, t, ..., 0]).tolist() == [[9, 5]]
        assert planes[1, t, ..., 3].sum() == (30 if t < 10 else 29)
    assert steps_with(rewards[1, :16]) == [11]
    assert planes[1, 10, 3, 8, 3] == 0
    assert steps_with(terminated[1])[0] == 16
    assert states.game.pos[2, :7].tolist() == [3, 2, 1, 0, 1, 2, 2]
    assert steps_with(terminated[2])[0] == 6


def test_freeway_by_hand():
    """The chicken moves one row up every third step, the first time at step 4; the ninth row earns 1 at step 28.

    A car that moves one column every third step is in column 4, row 8, when the chicken gets there: back to row 9.
    """
    game = console("freeway")
    tasks = lanes(variant("freeway"), variant("freeway"), variant("freeway", player_speed=1))
    state = game.reset(tasks, keys())[0]
    parked = state.game.cars.at[:, :, 2:].set(jnp.array([1000, 1]))  # frames to the next move, and between moves
    hit = parked.at[1, 7].set(jnp.array([3, 8, 2, 2]))
    state = state._replace(game=state.game.replace(cars=hit))
    states, planes, rewards, terminated = play("freeway", tasks, actions([1] * STEPS), state)
    rows = [9] * 3 + [row for row in range(8, 0, -1) for _ in range(3)] + [9] * 3
    assert states.game.pos[0].tolist() == rows
    assert [np.argwhere(frame).tolist() for frame in planes[0, ..., 0]] == [[[row, 4]] for row in rows]
    assert steps_with(rewards[0]) == [28]
    assert states.game.pos[1, :6].tolist() == [9] * 6
    assert planes[1, 2:4, 8, 4, 1].tolist() == [1, 1]
    assert steps_with(rewards[2])[0] == 10  # a move in every step but the first
    assert not terminated.any()


def test_asterix_by_hand():
    """Things move at step 6 for the first time, and then every fifth step; the first new one appears at step 11.

    The player is in column 5, row 5. Gold that reaches it at step 6 earns 1, an enemy ends the episode, and gold
    beside it is taken by a step to the left.
    """
    game, tasks = console("asterix"), lanes(variant("asterix", ramping=False))
    state = game.reset(tasks, keys())[0]
    nothing = [0] * 5  # column, row, to the right, gold, filled
    gold, enemy = [4, 5, 1, 1, 1], [6, 5, 0, 0, 1]
    slots = jnp.array([[nothing] * 4 + [thing] + [nothing] * 3 for thing in (gold, enemy, gold)])
    state = state._replace(game=state.game.replace(entities=slots))
    states, planes, rewards, terminated = play("asterix", tasks, actions([0], [0], [1, 2, 2, 2, 2, 2]), state)
    assert steps_with(rewards[0, :10]) == [6]
    assert not terminated[0, :10].any()
    assert steps_with(terminated[1])[0] == 6
    assert not rewards[1, :6].any()
    assert steps_with(rewards[2, :10]) == [1]
    assert list(zip(states.game.player_x[2, :6].tolist(), states.game.player_y[2, :6].tolist(), strict=True)) == [
        (4, 5),
        (4, 4),
        (4, 3),
        (4, 2),
        (4, 1),
        (4, 1),
    ]
    assert planes[0, 0, 5].tolist()[3:6] == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]  # trail, gold, player
    filled = states.game.entities[2, :, :, 4].sum(-1)
    assert filled.tolist()[:11] == [0] * 10 + [1]
    assert states.game.entities[2, 10].sum(0)[0] in (1, 8)  # it has moved already


def test_space_invaders_by_hand():
    """Shots leave at steps 1, 6, 11 from row 9, one row a step: they hit rows 3, 2, 3 at steps 6, 12, 16.

    The aliens (rows 0 to 3, columns 2 to 7) move to the left at step 13, so the third shot meets a whole column. They
    shoot at step 11 from the lowest in the player's column, row 2, which arrives at row 9 in step 18.
    """
    states, planes, rewards, terminated = play(
        "space_invaders", lanes(variant("space_invaders")), actions([3] * STEPS, [0], [1] * 6 + [2] * 9)
    )
    assert steps_with(rewards[0, :18]) == [6, 12, 16]
    assert [float(planes[0, t - 1, ..., 1].sum()) for t in (5, 6, 12, 16)] == [24, 23, 22, 21]
    assert steps_with(terminated[0])[0] == 18
    aliens = np.zeros((10, 10))
    aliens[:4, 2:8] = 1
    np.testing.assert_array_equal(planes[1, 11, ..., 1], aliens)
    np.testing.assert_array_equal(planes[1, 11, ..., 2], aliens)  # to the left
    np.testing.assert_array_equal(planes[1, 12, ..., 1], np.roll(aliens, -1, axis=1))
    assert steps_with(terminated[1])[0] == 17  # from row 3: one step earlier
    assert states.game.pos[2, :15].tolist() == [4, 3, 2, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]


# The variants.


@EACH_GAME
def test_mirrored_and_permuted_variants_are_the_same_game(game):
    """Under the inverse maps: the same states and rewards, planes with left and right exchanged."""
    rng = np.random.default_rng(0)
    order = rng.permutation(NUM_ACTIONS[game])
    script = rng.integers(NUM_ACTIONS[game], size=STEPS)
    tasks = lanes(variant(game), variant(game, is_mirrored=True), variant(game, actions=order, is_mirrored=True))
    states, planes, *outcome = play(
        game, tasks, actions(script.tolist(), script.tolist(), np.argsort(order)[script].tolist())
    )
    for leaf in jax.tree.leaves((states, outcome)):
        np.testing.assert_array_equal(leaf[0], leaf[1])
        np.testing.assert_array_equal(leaf[0], leaf[2])
    np.testing.assert_array_equal(planes[0][:, :, ::-1], planes[1])
    np.testing.assert_array_equal(planes[1], planes[2])
    assert (planes[0] != planes[1]).any()
    first = console(game).reset(tasks, keys())[1]
    np.testing.assert_array_equal(first[0][:, ::-1], first[1])


@EACH_GAME
def test_planes_and_actions_are_those_of_the_game(game):
    family = minatar_variants(game=game, horizon=7)
    assert family.observation_shape == (10, 10, NUM_PLANES[game])
    assert family.action == (NUM_ACTIONS[game], True)
    assert family.horizon == 7
    _, planes, rewards, terminated = play(game, lanes(variant(game)), actions([1, 2]))
    assert planes.dtype == rewards.dtype == jnp.float32
    assert terminated.dtype == bool
    assert set(np.unique(planes)) == {0.0, 1.0}


@EACH_GAME
def test_the_pace_is_the_tasks(game):
    """Another number for the timers, seen in the game's state."""
    changes = {
        "asterix": ({"init_move_interval": 3, "init_spawn_speed": 6}, lambda game: game.entities),
        "freeway": ({"player_speed": 2}, lambda game: game.pos),
        "space_invaders": ({"enemy_move_interval": 8}, lambda game: game.alien_map),
    }
    if game == "breakout":
        assert set(minatar_variants().sample(KEY).params.__dict__) == {"max_steps_in_episode"}
        return
    params, look = changes[game]
    states, *_ = play(game, lanes(variant(game), variant(game), variant(game, **params)), actions([1] * STEPS))
    seen = look(states.game)
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()


def test_the_last_action_sticks_as_often_as_the_task_says():
    """Always, never, or in half of the steps; the one before the first is 0. A new action comes in otherwise."""
    tasks = lanes(*[variant("breakout", sticky=p) for p in (1.0, 0.0, 0.5)])
    script = [1, 2] * (STEPS // 2)
    given = np.concatenate(
        [play("breakout", tasks, actions(script), seed=seed)[0].last_action for seed in range(40)], 1
    )
    assert not given[0].any()
    np.testing.assert_array_equal(given[1], script * 40)
    assert abs((given[2] != script * 40).mean() - 1 / 3) < 0.05  # an even number of repetitions shows the same action


@EACH_GAME
def test_an_action_that_does_not_exist_earns_nan_in_its_own_lane(game):
    tasks, script = lanes(variant(game, sticky=0.5)), [1, 2] * (STEPS // 2)
    clean = play(game, tasks, actions(script))
    for bad in (-1, NUM_ACTIONS[game], 2**31 - 1):
        spoilt = play(game, tasks, actions(script).at[1, 3].set(bad))
        assert steps_with(jnp.isnan(spoilt[2][1])) == [4]
        for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
            np.testing.assert_array_equal(left[::2], right[::2])


@EACH_GAME
def test_the_carry_is_stable(game):
    family = minatar_variants(game=game)
    task = jax.eval_shape(family.sample, KEY)
    state, planes = jax.eval_shape(family.reset, task, KEY)
    after, next_planes, *_ = jax.eval_shape(family.step, task, state, jax.ShapeDtypeStruct((), jnp.int32), KEY)
    for left, right in zip(jax.tree.leaves((state, planes)), jax.tree.leaves((after, next_planes)), strict=True):
        assert (left.shape, left.dtype, left.weak_type) == (right.shape, right.dtype, False)


@EACH_GAME
def test_every_episode_and_task_comes_from_its_key(game):
    family = console(game).family
    draw = jax.jit(family.sample)
    for left, right in zip(jax.tree.leaves(draw(KEY)), jax.tree.leaves(draw(KEY)), strict=True):
        np.testing.assert_array_equal(left, right)
    tasks, script = lanes(draw(KEY)), actions([1, 2, 0] * (STEPS // 3))
    for left, right in zip(
        jax.tree.leaves(play(game, tasks, script)), jax.tree.leaves(play(game, tasks, script)), strict=True
    ):
        np.testing.assert_array_equal(left, right)
    if game in ("breakout", "freeway"):  # the others start alike
        assert len({console(game).reset(tasks, keys(seed))[1].tobytes() for seed in range(20)}) > 1


# The samplers.


def layouts(controls: Controls) -> set:
    return {(*map(int, order), bool(flip)) for order, flip in zip(*map(np.asarray, controls[1:]), strict=True)}


def draws(sample, number: int = 4000):
    return jax.jit(jax.vmap(sample))(jax.random.split(KEY, number))


@pytest.mark.parametrize(
    ("game", "orders"), [("asterix", 120), ("breakout", 6), ("freeway", 6), ("space_invaders", 24)]
)
def test_a_quarter_of_the_layouts_is_held_out(game, orders):
    """Every order, mirrored or not, either for training or for testing; both at every pace; sticky in its range."""
    family = console(game).family
    train, held_out = draws(family.sample), draws(family.sample_held_out)
    seen, unseen = layouts(train.controls), layouts(held_out.controls)
    assert not seen & unseen
    assert (len(seen), len(unseen)) == (2 * orders - orders // 2, orders // 2)
    assert {tuple(sorted(layout[:-1])) for layout in seen} == {tuple(range(NUM_ACTIONS[game]))}
    paces = [{tuple(row) for row in np.stack(jax.tree.leaves(tasks.params), 1)} for tasks in (train, held_out)]
    assert paces[0] == paces[1]
    assert len(paces[0]) == {"asterix": 8, "breakout": 1, "freeway": 3, "space_invaders": 12}[game]
    for tasks in (train, held_out):
        np.testing.assert_allclose(np.quantile(tasks.controls.sticky, [0, 0.5, 1]), [0, 0.1, 0.2], atol=0.01)


def test_factors_can_be_left_out():
    """Without layouts, paces are held out; without anything, the published game is all there is."""
    plain = {"permuted_actions": False, "mirrored": False}
    family = minatar_variants(game="freeway", **plain)
    speeds = [set(draws(sample).params.player_speed.tolist()) for sample in (family.sample, family.sample_held_out)]
    assert speeds[0] | speeds[1] == {2, 3, 4}
    assert not speeds[0] & speeds[1]
    alone = minatar_variants(game="asterix", varied_pace=False, max_sticky=0.0, **plain)
    for sample in (alone.sample, alone.sample_held_out):
        chex.assert_trees_all_equal(sample(KEY), variant("asterix"))


@EACH_GAME
def test_the_held_out_game_is_never_trained_on(game):
    family = minatar_games(held_out=game, permuted_actions=True, mirrored=True)
    train, held_out = draws(family.sample), draws(family.sample_held_out)
    others = {i for i, name in enumerate(GAMES) if name != game}
    assert set(train.game.tolist()) == others
    np.testing.assert_allclose(np.bincount(train.game, minlength=4)[list(others)] / 4000, 1 / 3, atol=0.03)
    assert set(held_out.game.tolist()) == {GAMES.index(game)}
    assert len(layouts(draws(family.sample, 20000).controls)) == 2 * 720


# Several games.


def game_task(game: str, **controls) -> GameTask:
    """``game`` with the full set of actions."""
    made = {"sticky": jnp.float32(0), "actions": jnp.arange(6), "is_mirrored": jnp.array(False)} | controls
    return GameTask(Controls(**made), jnp.array(GAMES.index(game)))


@EACH_GAME
@pytest.mark.slow
def test_each_of_the_games_is_played_alone_and_the_surplus_is_empty(game):
    """Lane 0 plays the game, lane 1 the next one; actions that it has no use for do nothing (lane 2).

    The variants of one game have the other actions only, and play the same.
    """
    other = GAMES[(GAMES.index(game) + 1) % 4]
    script = np.random.default_rng(1).integers(6, size=STEPS)
    without = np.where(np.isin(script, USELESS[game]), 0, script)
    assert (script != without).any()
    tasks = lanes(game_task(game), game_task(other), game_task(game))
    states, planes, rewards, terminated = play(
        "games", tasks, actions(script.tolist(), script.tolist(), without.tolist())
    )
    for leaf in jax.tree.leaves((states.game, planes, rewards, terminated)):
        np.testing.assert_array_equal(leaf[0], leaf[2])
    assert planes.shape[2:] == (10, 10, 7)
    assert not planes[0, ..., NUM_PLANES[game] :].any()
    for i, name in enumerate(GAMES):  # the others rest
        time = states.game[i].time
        assert time[0].tolist() == (list(range(1, STEPS + 1)) if name == game else [0] * STEPS)

    buttons = [action for action in range(6) if action not in USELESS[game]]
    alone = play(game, lanes(variant(game)), actions([buttons.index(action) for action in without]))
    same = (states.game[GAMES.index(game)], planes[..., : NUM_PLANES[game]], rewards, terminated)
    for left, right in zip(jax.tree.leaves(same), jax.tree.leaves((alone[0].game, *alone[1:])), strict=True):
        np.testing.assert_array_equal(left[0], right[0])


def test_a_bad_action_stays_in_the_lane_of_its_game():
    tasks = lanes(game_task("asterix"), game_task("breakout"), game_task("freeway"))
    script = actions([1, 2, 3, 4, 5] * (STEPS // 5))
    clean, spoilt = play("games", tasks, script), play("games", tasks, script.at[1, 3].set(6))
    assert steps_with(jnp.isnan(spoilt[2][1])) == [4]
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(spoilt), strict=True):
        np.testing.assert_array_equal(left[::2], right[::2])


def test_actions_that_are_not_numbers_earn_nan():
    family = minatar_variants()
    state, _ = family.reset(variant("breakout"), KEY)
    step = jax.jit(jax.vmap(lambda action: family.step(variant("breakout"), state, action, KEY)[2]))
    assert jnp.isnan(step(jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf, 2.0]))).tolist() == [
        False,
        True,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: minatar_variants(game="pong"), "game = 'pong': must be one of asterix"),
        (lambda: minatar_games(held_out="pong"), "held_out = 'pong': must be one of asterix"),
        (lambda: minatar_variants(max_sticky=1.5), "max_sticky = 1.5: must be at least 0 and at most 1"),
        (lambda: minatar_variants(horizon=0), "horizon = 0: must be greater than 0"),
    ],
)
def test_errors_name_value_and_remedy(call, named):
    with pytest.raises(ValueError, match=named):
        call()
