"""The inner loop: what it collects, that replaying repeats it, and each of its options."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metarl_jax.collect.rollout import rollout
from metarl_jax.inner import make_batch, make_inner_loop
from metarl_jax.networks.belief import belief_policy
from metarl_jax.networks.mlp import mlp_policy
from metarl_jax.ops import trees
from metarl_jax.ops.baselines import fit_linear_baseline
from metarl_jax.ops.returns import discounted_return, generalized_advantage, normalize
from metarl_jax.ops.surrogates import ratio
from metarl_jax.tasks.navigation.goals import NavigationTask, navigation_finn
from metarl_jax.types import ActionSpec

HORIZON, EPISODES = 5, 4
# Saturated moves and a goal one move away: some episodes terminate.
FAMILY = navigation_finn(horizon=HORIZON, action_scale=0.05)
TASK = NavigationTask(jnp.array([0.1, 0.1]))
POLICY = mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,))
CRITIC_POLICY = mlp_policy((2,), ActionSpec(2), hidden_sizes=(4,), critic_hidden_sizes=(3,))
# Compilation is nearly all the time that these tests take.
jit = functools.partial(
    jax.jit,
    compiler_options={"xla_backend_optimization_level": 0},
)


def make_loop(num_inner_steps=1, policy=POLICY, **settings):
    settings = {
        "estimator": "likelihood_ratio", "inner_lr": 0.3, "episodes_per_task": EPISODES, "discount": 0.9,
        "gae_lambda": 1.0, "baseline": "linear_feature", **settings,
    }  # fmt: skip
    return make_inner_loop(FAMILY, policy, num_inner_steps=num_inner_steps, **settings)


@pytest.fixture(scope="module")
def params():
    return jit(CRITIC_POLICY.init)(jax.random.key(0))


@pytest.fixture(scope="module")
def data(params):
    """``(adapted parameters, three stages)`` of two steps with every part at work: critic, masks."""
    loop = make_loop(2, CRITIC_POLICY, baseline="critic")
    adapted, stages = jit(loop.collect)(params, TASK, jax.random.key(1))
    assert all(batch.trajectory.mask.mean() < 1 for batch in stages)
    return adapted, stages


def distance(left, right):
    return float(trees.norm(jax.tree.map(jnp.subtract, left, right)))


@pytest.mark.parametrize("num_inner_steps", [0, 1, 2, 3])
def test_replay_repeats_what_was_collected(params, num_inner_steps):
    """K + 1 stages; at the collecting parameters replay gives the same adaptation, distributions and ratios of 1."""
    loop = make_loop(num_inner_steps)
    params = {"mean": params["mean"], "log_std": params["log_std"]}

    @jit
    def both(params):
        adapted, stages = loop.collect(params, TASK, jax.random.key(2))
        return adapted, stages, *loop.replay(params, stages)

    adapted, stages, replayed, evaluations = both(params)
    assert len(stages) == len(evaluations) == num_inner_steps + 1
    assert (distance(adapted, params) > 0.01) == (num_inner_steps > 0)
    assert distance(adapted, replayed) < 1e-5
    for batch, evaluation in zip(stages, evaluations, strict=True):
        sampled = batch.trajectory
        assert batch.advantage.shape == batch.value_target.shape == evaluation.log_prob.shape == (HORIZON, EPISODES)
        assert sampled.percept.observation.shape == (HORIZON, EPISODES, 2)
        np.testing.assert_allclose(evaluation.dist_params.mean, sampled.dist_params.mean, atol=2e-6)
        np.testing.assert_allclose(evaluation.dist_params.log_std, sampled.dist_params.log_std, atol=2e-6)
        np.testing.assert_allclose(ratio(evaluation.log_prob, sampled.log_prob, sampled.mask), 1.0, atol=1e-5)


def test_stages_are_sampled_by_successive_policies_with_fresh_numbers(data, params):
    """Each stage is of the policy after that many steps, and shares no noise with the others."""
    _, stages = data
    stds = [batch.trajectory.dist_params.log_std[0, 0] for batch in stages]
    np.testing.assert_allclose(stds[0], params["log_std"])
    assert not np.allclose(stds[0], stds[1], atol=1e-4)
    assert not np.allclose(stds[1], stds[2], atol=1e-4)
    noise = [
        (s.trajectory.action - s.trajectory.dist_params.mean) * np.exp(-s.trajectory.dist_params.log_std)
        for s in stages
    ]
    assert min(abs(noise[0] - noise[1]).max(), abs(noise[1] - noise[2]).max()) > 0.1


@pytest.mark.parametrize("entropy_coef", [0.0, 0.2])
def test_one_step_is_gradient_descent_on_surrogate_critic_loss_and_entropy(data, params, entropy_coef):
    """phi = theta - alpha grad(surrogate + critic_coef * mean squared error - entropy_coef * entropy), step by step."""
    stages = data[1][:2]
    batch = stages[0]
    sampled = batch.trajectory

    def loss(params):
        dist_params, value = CRITIC_POLICY.evaluate(params, (), sampled.percept)
        log_prob = CRITIC_POLICY.distribution.log_prob(dist_params, sampled.action)
        weights = sampled.mask / sampled.mask.sum()
        error = 0.7 * jnp.sum(weights * (value - batch.value_target) ** 2)
        entropy = jnp.sum(params["log_std"])  # of a Gaussian, plus a constant
        surrogate = -jnp.sum(weights * jnp.exp(log_prob - sampled.log_prob) * batch.advantage)
        return surrogate + error - entropy_coef * entropy

    expected = jit(lambda p: jax.tree.map(lambda x, g: x - 0.3 * g, p, jax.grad(loss)(p)))(params)
    adapted, _ = jit(make_loop(1, CRITIC_POLICY, critic_coef=0.7, entropy_coef=entropy_coef).replay)(params, stages)
    assert distance(adapted, expected) < 1e-5
    assert distance(adapted["value"], params["value"]) > 1e-3, "the critic adapts too"


def replay_and_pull_back(loop, params, stages):
    """Adapted parameters, and the gradient of their sum with respect to the meta-parameters."""

    def total(params):
        adapted, _ = loop.replay(params, stages)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(adapted)), adapted

    gradient, adapted = jit(jax.grad(total, has_aux=True))(params)
    return adapted, gradient


@pytest.fixture(scope="module")
def plain(data, params):
    return replay_and_pull_back(make_loop(2, CRITIC_POLICY), params, data[1])


def test_first_order_adapts_alike_but_its_jacobian_is_the_identity(data, params, plain):
    """Holding the inner gradient constant changes no value and every derivative."""
    adapted, gradient = replay_and_pull_back(make_loop(2, CRITIC_POLICY, first_order=True), params, data[1])
    assert distance(adapted, plain[0]) < 1e-6
    assert all((leaf == 1.0).all() for leaf in jax.tree.leaves(gradient))
    assert distance(gradient, plain[1]) > 0.1


def test_remat_changes_no_number(data, params, plain):
    """Recomputing in the backward pass is a matter of memory only."""
    adapted, gradient = replay_and_pull_back(make_loop(2, CRITIC_POLICY, remat=True), params, data[1])
    assert distance(adapted, plain[0]) < 1e-6
    assert distance(gradient, plain[1]) < 1e-4


def test_max_inner_grad_norm_bounds_each_step_and_otherwise_changes_nothing(data, params, plain):
    """A step is at most inner_lr * max_inner_grad_norm long; a bound that is not reached does not matter."""
    one_step = data[1][:2]
    bounded, _ = jit(make_loop(1, CRITIC_POLICY, max_inner_grad_norm=0.05).replay)(params, one_step)
    free, _ = jit(make_loop(1, CRITIC_POLICY).replay)(params, one_step)
    np.testing.assert_allclose(distance(bounded, params), 0.3 * 0.05, rtol=1e-3)
    assert distance(free, params) > 0.3 * 0.1
    adapted, gradient = replay_and_pull_back(make_loop(2, CRITIC_POLICY, max_inner_grad_norm=1e3), params, data[1])
    assert distance(adapted, plain[0]) < 1e-6
    assert distance(gradient, plain[1]) < 1e-4


def test_each_step_has_its_own_size(data, params):
    """A tuple of step sizes is used in order, when collecting and when replaying."""
    _, stages = data
    replay = {
        sizes: jit(make_loop(2, CRITIC_POLICY, inner_lr=sizes).replay)(params, stages)[0]
        for sizes in [(0.0, 0.0), (0.3, 0.0), (0.1, 0.3)]
    }
    one, _ = jit(make_loop(1, CRITIC_POLICY, inner_lr=0.3).replay)(params, stages[:2])
    assert distance(replay[0.0, 0.0], params) == 0.0
    assert distance(replay[0.3, 0.0], one) < 1e-6
    assert distance(replay[0.1, 0.3], one) > 0.01
    loop = make_loop(2, CRITIC_POLICY, inner_lr=(0.0, 0.3), baseline="critic")
    _, collected = jit(loop.collect)(params, TASK, jax.random.key(1))
    log_stds = [batch.trajectory.dist_params.log_std[0, 0] for batch in collected]
    np.testing.assert_array_equal(log_stds[0], log_stds[1])
    assert not np.allclose(log_stds[1], log_stds[2], atol=1e-4)


def test_collected_data_is_constant(params):
    """No gradient flows through sampling."""
    loop = make_loop(1, CRITIC_POLICY)

    def total(params):
        adapted, stages = loop.collect(params, TASK, jax.random.key(1))
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves((adapted, stages)))

    assert all((leaf == 0).all() for leaf in jax.tree.leaves(jit(jax.grad(total))(params)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_inner_steps": -1}, "num_inner_steps = -1"),
        ({"inner_lr": -0.1}, "inner_lr = .*-0.1"),
        ({"inner_lr": float("nan")}, "inner_lr = .*nan"),
        ({"inner_lr": (0.1, 0.2, 0.3)}, r"inner_lr = \(0.1, 0.2, 0.3\).*2 inner steps"),
        ({"inner_lr": (0.1, -0.2)}, "inner_lr = .*-0.2"),
        ({"episodes_per_task": 0}, "episodes_per_task = 0"),
        ({"entropy_coef": -0.1}, "entropy_coef = -0.1"),
        ({"baseline": "critic"}, "baseline = 'critic'.*critic_hidden_sizes"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    """At construction, naming the setting, its value and the remedy."""
    with pytest.raises(ValueError, match=message):
        make_loop(**{"num_inner_steps": 2, **settings})


def test_a_belief_that_nobody_would_train_is_refused():
    policy = belief_policy(FAMILY.observation_shape, FAMILY.action, hidden_size=3)
    with pytest.raises(ValueError, match=r"policy = 'with a belief': only varibad"):
        make_inner_loop(FAMILY, policy)


def scored(policy, params, baseline, gae_lambda=1.0, time_limit_is_terminal=False):
    @jit
    def run(params):
        trajectory = rollout(FAMILY, policy, params, TASK, jax.random.key(4), EPISODES)
        return make_batch(
            policy, params, trajectory, discount=0.9, gae_lambda=gae_lambda, baseline=baseline,
            time_limit_is_terminal=time_limit_is_terminal,
        )  # fmt: skip

    batch = run(params)
    mask = batch.trajectory.mask
    np.testing.assert_allclose((batch.advantage * mask).sum() / mask.sum(), 0, atol=1e-5)
    np.testing.assert_allclose((batch.advantage**2 * mask).sum() / mask.sum(), 1, rtol=1e-4)
    assert (batch.advantage[mask == 0] == 0).all()
    assert (mask == 0).any()
    return batch, batch.trajectory


@pytest.mark.parametrize("baseline", ["zero", "linear_feature"])
def test_baselines_score_returns_up_to_the_horizon(params, baseline):
    """Advantage is the return minus the baseline, normalised over valid steps; nothing is earned after the limit."""
    batch, t = scored(CRITIC_POLICY, params, baseline)
    gain = discounted_return(t.reward, jnp.zeros(EPISODES), t.discount, t.mask, 0.9)
    value = {
        "zero": jnp.zeros_like(gain),
        "linear_feature": fit_linear_baseline(t.percept.observation, gain, t.mask),
    }[baseline]
    np.testing.assert_allclose(batch.advantage, normalize(gain - value, t.mask), atol=1e-3)
    valid = t.mask > 0
    np.testing.assert_allclose(batch.value_target[valid], gain[valid], atol=1e-5)


@pytest.mark.parametrize("time_limit_is_terminal", [False, True])
def test_the_critic_is_bootstrapped_through_the_time_limit_unless_told(params, time_limit_is_terminal):
    """The last delta of an episode that was cut off holds V(final percept), or 0; one that terminated never does."""
    params = {**params, "value": jax.tree.map(lambda x: x + 0.5, params["value"])}
    batch, t = scored(CRITIC_POLICY, params, "critic", 0.8, time_limit_is_terminal)
    _, value = CRITIC_POLICY.evaluate(params, (), t.percept)
    _, last = CRITIC_POLICY.evaluate(params, (), t.final_percept)
    final_value = 0 * last if time_limit_is_terminal else last
    cut_off = (t.mask[-1] > 0) & (t.discount[-1] > 0)
    assert cut_off.any()
    assert not cut_off.all()
    np.testing.assert_allclose(batch.value_target[-1][cut_off], (t.reward[-1] + 0.9 * final_value)[cut_off], rtol=1e-4)
    raw = generalized_advantage(t.reward, value, final_value, t.discount, t.mask, 0.9, 0.8)
    np.testing.assert_allclose(batch.advantage, normalize(raw, t.mask), atol=1e-3)
    ended = (t.discount == 0) & (t.mask > 0)
    np.testing.assert_allclose(batch.value_target[ended], t.reward[ended], rtol=1e-4, atol=1e-5)


def test_percepts_in_half_the_bits_hardly_move_the_gradient(params):
    full, rounding = (make_loop(1, CRITIC_POLICY, percept_storage=storage) for storage in ("full", "bfloat16"))

    @jit
    def both():
        _, stages = full.collect(params, TASK, jax.random.key(1))
        _, stored = rounding.collect(params, TASK, jax.random.key(1))

        def gradient(loop, stages):
            def loss(theta):
                _, evaluations = loop.replay(theta, stages)
                return jnp.mean(evaluations[-1].log_prob * stages[-1].advantage)

            return jax.grad(loss)(params)

        return (
            stages[0].trajectory.percept,
            stored[0].trajectory.percept,
            gradient(full, stages),
            gradient(rounding, stored),
        )

    seen, stored, exact, rounded = both()
    assert stored.observation.dtype == stored.previous_action.dtype == jnp.bfloat16
    assert jnp.array_equal(stored.observation, seen.observation.astype(jnp.bfloat16))
    assert 0 < distance(rounded, exact) < 0.01 * float(trees.norm(exact))
