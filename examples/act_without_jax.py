"""Acts with an exported policy where there is no JAX: ``python act_without_jax.py FOLDER``, with numpy alone.

FOLDER is what ``metarl export RUN_DIR`` wrote for a run on a plane, such as configs/quickstart.yaml. The robot is a
point that has to find a place it does not see; put your own in the place of ``PointRobot``.
"""

import sys
from pathlib import Path

import numpy as np

folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
from policy import Policy  # the file that was exported beside the weights


class PointRobot:
    """Answers to a push with where it is, and pays by how near that is to the goal."""

    def __init__(self, goal: tuple[float, float]) -> None:
        self.position, self.goal = np.zeros(2), np.asarray(goal)

    def move(self, push: np.ndarray) -> tuple[np.ndarray, float]:
        self.position = self.position + push
        return self.position, -float(np.sum((self.position - self.goal) ** 2))


policy, robot = Policy(folder), PointRobot(goal=(0.3, -0.2))
state, observation, earned = policy.reset(), robot.position, 0.0
for _ in range(100):
    action, state = policy.act(state, observation)  # the most likely action; a random one with a generator
    observation, reward = robot.move(policy.control(action))
    state = policy.observe(state, reward)  # a memory wants to know; others do not mind
    earned += reward
print(f"return {earned:.2f}, at {observation.round(3).tolist()} in the end")
