"""A model card, in the layout that model hubs expect: ``README.md`` with YAML before it, beside the exported files."""

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from metarl_jax.config import ConfigError, dump
from metarl_jax.export.folder import POLICY_FILE, untracked
from metarl_jax.report.tables import milestones, tasks_in_words
from metarl_jax.runs.directory import CONFIG_FILE, LEARNING_CURVE, evaluations_in
from metarl_jax.runs.run import Run

CARD = "README.md"


class Evaluated(NamedTuple):
    """An evaluation that lies in a run directory.

    Attributes:
      numbers: what :func:`metarl_jax.runs.evaluation.evaluate` measured.
      picture: of it; None if there is none.
    """

    numbers: dict[str, Any]
    picture: Path | None


def evaluation_of(run_dir: Path, iteration: int) -> Evaluated | None:
    """The evaluation of a checkpoint on held-out tasks, that with the config's settings first; None without any."""
    for path in evaluations_in(run_dir):
        numbers = json.loads(path.read_text())
        if numbers["checkpoint"] == iteration and numbers["settings"]["distribution"] == "held_out":
            picture = path.with_name(path.name.replace("evaluation", "adaptation", 1)).with_suffix(".png")
            return Evaluated(numbers, picture if picture.exists() else None)
    return None


def write_card(run: Run, run_dir: Path, folder: Path, licence: str) -> None:
    """Write the model card and what it shows beside what was exported.

    Args:
      run: what was trained.
      run_dir: where it lives, evaluated.
      folder: what it was exported to.
      licence: of the weights.

    Raises:
      ConfigError: if it has not been evaluated.
    """
    evaluated = evaluation_of(run_dir, run.iteration)
    if evaluated is None:
        raise ConfigError(
            f"{run_dir}: iteration {run.iteration} is not evaluated on held-out tasks: metarl evaluate it"
        )
    pictures = {"adaptation.png": evaluated.picture, LEARNING_CURVE: run_dir / LEARNING_CURVE}
    shown = {name: path for name, path in pictures.items() if path is not None and path.exists()}
    for name, path in shown.items():
        shutil.copyfile(path, folder / name)
    (folder / CONFIG_FILE).write_text(dump(untracked(run.config)), encoding="utf-8")
    (folder / "evaluation.json").write_text(json.dumps(evaluated.numbers, indent=1) + "\n")
    about = json.loads((folder / POLICY_FILE).read_text())
    text = model_card(run, evaluated.numbers, about, list(shown), licence)
    (folder / CARD).write_text(text, encoding="utf-8")


def model_card(run: Run, evaluation: dict[str, Any], about: dict[str, Any], pictures: list[str], licence: str) -> str:
    """The text of the card.

    Args:
      run: what was trained.
      evaluation: of it.
      about: what ``policy.json`` says.
      pictures: files beside the card.
      licence: of the weights.

    Returns:
      Markdown with YAML before it.
    """
    title = f"{run.config.algorithm.name} on {run.config.tasks.name}"
    front = yaml.safe_dump(_front_matter(run, evaluation, title, licence), sort_keys=False, allow_unicode=True)
    images = "".join(f"\n![{Path(name).stem}]({name})\n" for name in pictures)
    parts = [f"---\n{front}---\n\n# {title}\n", _what_it_is(run, about), _table(evaluation), images, _use(about)]
    return "\n".join(part for part in parts if part)


def _front_matter(run: Run, evaluation: dict[str, Any], title: str, licence: str) -> dict[str, Any]:
    """What hubs index, with the return after all steps of adaptation as the metric."""
    algorithm, tasks = run.config.algorithm.name, run.config.tasks.name
    last = evaluation["gradient_steps"][-1]
    name = f"mean return after {last} {evaluation['settings']['adaptation']}"
    result: dict[str, Any] = {
        "task": {"type": "reinforcement-learning", "name": "reinforcement-learning"},
        "dataset": {"name": tasks, "type": tasks},
    }
    if (value := evaluation["mean_return"][-1]) is not None:
        result["metrics"] = [{"type": "mean_reward", "value": value, "name": name, "verified": False}]
    tags = ["reinforcement-learning", "meta-learning", "meta-reinforcement-learning", "jax", algorithm, tasks]
    return {
        "license": licence,
        "library_name": "metarl-jax",
        "pipeline_tag": "reinforcement-learning",
        "tags": list(dict.fromkeys(tags)),
        "model-index": [{"name": title, "results": [result]}],
    }


def _what_it_is(run: Run, about: dict[str, Any]) -> str:
    adapted = about["adapted"]
    which = "The meta-learned parameters, before adaptation to a task"
    if adapted is not None:
        numbers = ", ".join(f"{number:.4g}" for number in adapted["task"])
        which = f"The agent after {len(adapted['mean_return']) - 1} {adapted['unit']} on the task {numbers}"
    return (
        f"A policy trained by meta-reinforcement learning with `metarl-jax`: `{run.config.algorithm.name}` on "
        f"`{run.config.tasks.name}`, seed {run.config.seed}, {run.iteration} updates. {which}. "
        "`config.yaml` holds every setting.\n"
    )


def _table(evaluation: dict[str, Any]) -> str:
    """The adaptation curve beside a random initialisation's."""
    settings, random = evaluation["settings"], evaluation["random_initialisation"]
    rows = [
        f"| {k} | {_interval(evaluation, k)} | {_interval(random, k)} |"
        for k in milestones(evaluation["gradient_steps"][-1])
    ]
    head = [
        f"Return on {tasks_in_words(settings)}, {settings['episodes_per_task']} episodes each, "
        "with 95 % intervals over tasks:",
        "",
        f"| {settings['adaptation']} | meta-trained | random initialisation |",
        "|---|---|---|",
    ]
    return "\n".join([*head, *rows]) + "\n"


def _interval(summary: dict[str, Any], k: int) -> str:
    """A mean with its interval; what could not be measured is a dash."""
    numbers = [summary[name][k] for name in ("mean_return", "ci_low", "ci_high")]
    mean, low, high = ("–" if number is None else f"{number:.4g}" for number in numbers)
    return f"{mean} [{low}, {high}]"


def _use(about: dict[str, Any]) -> str:
    engine = "" if about["refused"] is None else ', engine="jax"'
    needs = "numpy alone" if about["refused"] is None else "JAX"
    adapt = "`adapt.jaxexport` adapts to recorded episodes: `policy.adapt(...)`.\n" if about["no_adapt"] is None else ""
    shape, hidden = tuple(about["observation"]["shape"]), about["observation"].get("privileged", 0)
    privileged = (
        f" Its last {hidden} numbers were for a critic alone: `act` does without them, `adapt` does not."
        if hidden
        else ""
    )
    return f"""## Use

With {needs}, in this folder:

```python
from policy import Policy

policy = Policy("."{engine})
state = policy.reset()
action, state = policy.act(state, observation)
state = policy.observe(state, reward, done)
```

An observation has the shape {shape}.{privileged}
`policy.control(action)` is what the environment is given.
`Policy(".", engine="jax")` does the same with `act.jaxexport`, on CPUs, CUDA GPUs and TPUs. {adapt}"""
