"""Watch a trained half-cheetah before and after it adapts to one task.

    python examples/render_half_cheetah.py runs/promp_half_cheetah_direction --task -1 --output backward.gif

``--task`` is the direction (1 or -1), or the target velocity in m/s, as the run was trained. Needs no display.
"""

import argparse

import jax
import jax.numpy as jnp

import metarl_jax
from metarl_jax.tasks.drawing import animate_half_cheetah
from metarl_jax.types import Array, Carry, Key, Params, Percept, Policy, PyTree, Task, TaskFamily


def record(
    family: TaskFamily, policy: Policy, params: Params, carry: Carry, task: Task, key: Key
) -> tuple[PyTree, Array]:
    """One episode: physics states ``[T, ...]`` and rewards ``[T]``. A policy sees a batch, here of one."""
    key_reset, key_steps = jax.random.split(key)
    state, observation = family.reset(task, key_reset)
    zeros = jnp.zeros(1)
    percept = Percept(observation[None], jnp.zeros((1, family.action.size)), zeros, jnp.ones(1))

    def step(loop: tuple, t: Array) -> tuple[tuple, tuple]:
        state, percept, carry = loop
        key_act, key_env = jax.random.split(jax.random.fold_in(key_steps, t))
        action, _, _, carry = policy.act(params, carry, percept, key_act)
        state, observation, reward, _ = family.step(task, state, action[0], key_env)
        return (state, Percept(observation[None], action, reward[None], zeros), carry), (state.physics, reward)

    _, (physics, rewards) = jax.lax.scan(step, (state, percept, carry), jnp.arange(family.horizon))
    return physics, rewards


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Animate a half-cheetah before and after adaptation.")
    parser.add_argument("run_dir", help="directory of a half-cheetah run")
    parser.add_argument("--task", type=float, help="direction (1 or -1) or target velocity in m/s; default: drawn")
    parser.add_argument("--output", default="half_cheetah.gif", help="GIF file to write")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    run = metarl_jax.load(arguments.run_dir)
    name = run.config.tasks.name
    if not name.startswith("half_cheetah"):
        raise SystemExit(f"{arguments.run_dir} was trained on {name}: give a run on half_cheetah_*")
    key_task, key_adapt, key_record = jax.random.split(jax.random.key(arguments.seed), 3)
    task = run.family.sample_held_out(key_task) if arguments.task is None else jnp.float32(arguments.task)

    agent, _ = jax.jit(run.algorithm.adapt)(run.params, task, key_adapt)
    play = jax.jit(lambda params, carry: record(run.family, run.policy, params, carry, task, key_record))
    before, reward_before = play(run.params, run.policy.initial_carry(1))
    after, reward_after = play(agent.params, agent.carry)

    kind = name.removeprefix("half_cheetah_")
    labels = (
        f"{kind} {float(task):+.2g}, before adaptation: return {float(reward_before.sum()):.1f}",
        f"{kind} {float(task):+.2g}, after adaptation: return {float(reward_after.sum()):.1f}",
    )
    animate_half_cheetah(before, after, arguments.output, labels)
    print(f"wrote {arguments.output}: " + "; ".join(labels))


if __name__ == "__main__":
    main()
