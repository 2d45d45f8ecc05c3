"""The page: its sections, that it is whole, keeps to itself and takes nothing for markup; in a browser, too."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metarl_jax.checks import Refusal
from metarl_jax.cli import app
from metarl_jax.config import Config, dump
from metarl_jax.report.html.adaptation import adaptation
from metarl_jax.report.html.blocks import Block, Drawings, Frame, Plots, Screens, Section
from metarl_jax.report.html.episodes import draw
from metarl_jax.report.html.material import Material, subject
from metarl_jax.report.html.page import SECTIONS, html, page
from metarl_jax.report.html.settings import overview
from metarl_jax.runs.provenance import record_start
from tests.helpers import tiny_config, untrained

UPDATES = 30
CONFIG: dict[str, Any] = {"training": {"num_iterations": UPDATES}}
NASTY = "<script>alert('x')</script>&\"{{ 7 * 7 }}"
VOID = {"meta", "link", "input", "br", "img"}
SETTINGS = {
    "num_tasks": 4,
    "num_inner_steps": 2,
    "episodes_per_task": 3,
    "step_size_rule": "constant",
    "distribution": "held_out",
    "seed": 0,
    "adaptation": "gradient steps",
    "step_sizes": [0.1],
}


def summary(start: float) -> dict[str, Any]:
    returns = [[start + task + 5.0 * step for task in range(4)] for step in range(3)]
    return {
        "mean_return": [sum(row) / 4 for row in returns],
        "per_task_return": returns,
        "success_rate": [0.0, 0.5, 1.0],
    }


def write_run(folder: Path, config: Config, wrong: bool = False) -> Path:
    """What training and an evaluation leave behind, but for checkpoints."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    rows = [
        {
            "iteration": i,
            "env_steps": 100 * i,
            "return_pre": -50.0,
            "return_post": None if wrong and i > 5 else config.seed - 40.0 + i,
            "return_per_stage": [-50.0, -40.0 + i],
            "env_steps_per_second": 1e4,
            "iteration_seconds": 9.0 if i == 1 else 0.5,
            "skipped": float(wrong and i > 5),
            "inner_kl": [0.01 * i],
            "policy_entropy": 1.0,
            **({"evaluation_return_post": -20.0 + i, "evaluation_seconds": 1.0} if i % 10 == 0 else {}),
        }
        for i in range(1, UPDATES + 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    evaluation = {"checkpoint": UPDATES, **summary(-40.0), "settings": SETTINGS, "optimum": -1.0}
    evaluation |= {"random_initialisation": summary(-90.0)}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    record_start(folder, 0)
    return folder


def write_study(folder: Path) -> Path:
    rates, lines = (
        ("0.1", "0.5"),
        ["trial,state,updates,algorithm.inner_lr,optimizer.learning_rate,objective,seed 1,seed 2"],
    )
    for number, (inner, outer) in enumerate((x, y) for x in rates for y in rates):
        lines.append(f"{number},finished,{UPDATES},{inner},{outer},{-number},{-number - 1},{1 - number}")
        for seed in (1, 2):
            config = tiny_config(
                **CONFIG, seed=seed, algorithm={"inner_lr": float(inner)}, optimizer={"learning_rate": float(outer)}
            )
            write_run(folder / "trials" / f"{number:04d}" / f"seed-{seed}", config)
    lines[-1] = "3,failed,,0.5,0.5,,,"
    (folder / "study.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds of one method."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in range(3):
        write_run(folder / "promp" / f"seed-{seed}", tiny_config(**CONFIG, seed=seed, logging={"run_root": NASTY}))
    write_run(folder / "oracle", tiny_config(**CONFIG, tasks={"oracle": True}))
    write_study(folder / "study")
    return folder


@pytest.fixture(scope="module")
def whole(runs: Path) -> str:
    """The report of all of it."""
    output = runs / "report" / "all.html"
    arguments = [str(runs / name) for name in ("promp", "oracle", "study")]
    told = CliRunner().invoke(app, ["report", *arguments, "-o", str(output), "--title", NASTY])
    assert told.exit_code == 0, told.output
    assert f"report: {output}" in told.output
    return output.read_text()


class Outline(HTMLParser):
    """Tags that are open, what was never opened or closed, anchors and their targets."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.names: list[str] = []
        self.targets: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.names += [str(found["id"])] if "id" in found else []
        self.targets += [str(found["href"])[1:]] if tag == "a" else []
        self.headings += [tag] if re.fullmatch("h[1-6]", tag) else []
        self.wrong += ["a header cell without scope"] if tag == "th" and "scope" not in found else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_the_page_is_whole_and_can_be_walked_through(whole: str) -> None:
    outline = Outline()
    outline.feed(whole)
    assert (outline.open, outline.wrong) == ([], [])
    assert len(set(outline.names)) == len(outline.names)
    assert set(outline.targets) <= set(outline.names)
    assert outline.targets[0] == "main"  # the first stop of the tab key leads past the head
    assert outline.headings == ["h1", *["h2"] * (len(outline.headings) - 1)]


def test_the_page_refers_to_nothing_else(whole: str) -> None:
    assert not re.findall(r"https?:|@import|url\(|<link(?! rel=\"icon\" href=\"data:)|src=\"", whole)
    assert "default-src 'none'" in whole
    assert len(whole) < 1_000_000


def test_methods_that_were_measured_otherwise_are_told_apart(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, tiny_config(**CONFIG)) for name in ("usual", "mode")]
    file = runs[1] / "evaluation.json"
    found = json.loads(file.read_text())
    alike = [subject(run.name, tiny_config(**CONFIG), {0: run}) for run in runs]
    assert "Return on 4 held-out tasks" in html([adaptation(Material(alike))], "")
    file.write_text(json.dumps(found | {"settings": SETTINGS | {"test_policy": "deterministic"}}))
    other = [subject(run.name, tiny_config(**CONFIG), {0: run}) for run in runs]
    text = unescape(html([adaptation(Material(other))], ""))
    assert "Return on new tasks" in text
    assert "usual: 1 seed, after 30 updates, on 4 held-out tasks; mode: 1 seed" in text
    assert "on 4 held-out tasks by the policy's mode." in text


def test_text_is_never_markup(whole: str) -> None:
    """The title and a config hold what would be a script, or an expression of the template."""
    assert "alert(" in whole
    assert "<script>alert" not in whole
    assert "{{ 7 * 7 }}" in whole


def test_all_sections_are_there_in_their_order(whole: str) -> None:
    names = re.findall(r'<section id="(\w+)"', whole)
    expected = "overview study learning adaptation episodes health optimisation time config provenance"
    assert names == expected.split()
    assert len(names) == len(SECTIONS)


def text_of(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_the_page_tells_what_the_runs_came_to(whole: str) -> None:
    text = text_of(whole)
    assert re.search(r"promp\S* [^-]* navigation_finn 3 30 of 30 3,000 -50 ", text)
    assert "random initialisation" in text
    assert "optimum" in text
    assert re.search(r"algorithm.kl_target null 0.01", text)
    assert "No warning" in text
    assert "metarl-jax" in text
    assert "highest objective" in text
    assert "failed" in text
    assert re.search(r"compilation: [\d.]+ s", text)


def test_of_what_there_is_not_no_section_is_made(tmp_path: Path) -> None:
    """A run that has only begun: no metrics, no evaluation, no checkpoint."""
    config = tiny_config(**CONFIG)
    (tmp_path / "config.yaml").write_text(dump(config))
    material = Material([subject("promp", config, {3: tmp_path})])
    names = re.findall(r'<section id="(\w+)"', text := page(material, "begun"))
    assert names == ["overview", "adaptation", "episodes", "optimisation", "config", "provenance"]
    assert f"metarl evaluate {tmp_path}" in text
    assert "0 of 30" in text


@pytest.mark.parametrize(("seeds", "name"), [((0,), "Bayes-optimal"), ((0, 1), "Bayes-optimal (mean)")])
def test_what_is_best_without_knowing_the_task_is_a_curve(tmp_path: Path, seeds: Sequence[int], name: str) -> None:
    """Beside interquartile means it says that it is a mean."""
    config, best = tiny_config(**CONFIG), [-7.0, -5.5, -2.25]
    for seed in seeds:
        folder = write_run(tmp_path / str(seed), config)
        found = json.loads((folder / "evaluation.json").read_text())
        (folder / "evaluation.json").write_text(json.dumps({**found, "bayes_optimum": best}))
    section = adaptation(Material([subject("rl2", config, {seed: tmp_path / str(seed) for seed in seeds})]))
    (plots,) = [block for block in section.blocks if isinstance(block, Plots)]
    (line,) = [line for line in plots.plots[0].chart.lines if line.name.startswith("Bayes")]
    assert line.name == name
    assert list(line.x) == [0, 1, 2]
    assert list(line.y) == best


def test_of_runs_of_several_lengths_each_is_told(tmp_path: Path) -> None:
    training = {**CONFIG["training"], "num_iterations": UPDATES + 10}
    configs = {seed: tiny_config(**CONFIG, seed=seed) for seed in (1, 2)}
    configs[3] = tiny_config(**{**CONFIG, "training": training}, seed=3)
    runs = {seed: write_run(tmp_path / str(seed), config) for seed, config in configs.items()}
    (section,) = [overview(Material([subject("promp", configs[1], runs)]))]
    assert "30 of 30, 30 of 40" in text_of(html([section], ""))


def test_a_run_that_went_wrong_says_so_with_the_remedy(tmp_path: Path) -> None:
    config = tiny_config(**CONFIG)
    material = Material(
        [subject("promp", config, {3: write_run(tmp_path / "run", config, wrong=True)})], episodes=False
    )
    text = text_of(page(material, "wrong"))
    assert "at the end diverged" in text
    assert "shorten the inner steps" in text


@pytest.mark.parametrize(("lines", "shown"), [(2, "seed 3, start 1 seed 3, start 2"), (0, "of an older version")])
def test_each_start_is_shown(tmp_path: Path, lines: int, shown: str) -> None:
    config = tiny_config(**CONFIG)
    run = write_run(tmp_path / "run", config)
    provenance = run / "provenance.jsonl"
    told = [json.loads(provenance.read_text()) | {"processor": f"kind {i}"} for i in range(lines)]
    provenance.write_text("".join(json.dumps(row) + "\n" for row in told))
    runs = {3: run, 4: write_run(tmp_path / "other", config)} if lines else {3: run}
    text = text_of(page(Material([subject("promp", config, runs)], episodes=False), "starts"))
    assert shown in text


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="holds no run"):
        CliRunner().invoke(app, ["report", str(tmp_path)], catch_exceptions=False)


def blocks_of(kind: str) -> Sequence[Block]:
    match kind:
        case "paths":
            run = untrained({"name": "navigation_finn", "horizon": 6}, {"name": "maml"})
        case "body":
            run = untrained({"name": "half_cheetah_direction", "horizon": 4, "backend": "mujoco"}, {"name": "maml"})
        case "screens":
            pytest.importorskip("gymnax")
            conv = {"name": "conv", "channels": [2], "hidden_sizes": [4]}
            run = untrained({"name": "minatar_variants", "game": "breakout", "horizon": 5}, {"name": "maml"}, conv)
        case _:
            trials = {"name": "rl2", "episodes_per_trial": 3, "num_minibatches": 1}
            run = untrained({"name": "bandit_bernoulli"}, trials, {"name": "recurrent", "hidden_size": 4})
    return list(draw(run, kind))


def test_paths_lie_in_their_picture() -> None:
    (drawn,) = blocks_of("paths")
    assert isinstance(drawn, Drawings)
    assert drawn.has_goal
    assert [panel["title"].partition(":")[0] for panel in drawn.panels] == ["before adaptation", "after adaptation"]
    for panel in drawn.panels:
        numbers = [
            float(number) for path in re.findall(r'd="M([^"Z]*)', panel["svg"]) for number in re.split("[,L]", path)
        ]
        assert all(0 <= number <= 1000 for number in numbers)
        assert panel["svg"].count("<circle") == 3


def test_pulls_are_shares_of_trials() -> None:
    (drawn,) = blocks_of("pulls")
    assert isinstance(drawn, Plots)
    assert "200 trials" in drawn.plots[0].chart.title
    *arms, chance = drawn.plots[0].chart.lines
    assert sum(line.y[0] for line in arms) == pytest.approx(1.0)
    assert chance.y[0] == pytest.approx(1 / len(arms))


@pytest.mark.slow
def test_a_game_plays_in_signs_of_colours() -> None:
    (drawn,) = blocks_of("screens")
    assert isinstance(drawn, Screens)
    for episode in drawn.shown["episodes"]:
        assert 1 <= len(episode["frames"]) <= 6
        assert all(len(frame) == drawn.shown["width"] * drawn.shown["height"] for frame in episode["frames"])
        assert {int(sign, 36) for frame in episode["frames"] for sign in frame} <= set(
            range(len(drawn.shown["colours"]))
        )


def browsers() -> Iterator[str]:
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if (found := shutil.which(name)) is not None:
            yield found


def opened(text: str, folder: Path, *options: str) -> tuple[str, list[str]]:
    """The page after its scripts have run, with the network cut, and what they told the console."""
    file = folder / "page.html"
    file.write_text(text)
    command = [
        *(next(browsers()), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
        *("--no-first-run", "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder / 'profile'}"),
        *("--enable-logging=stderr", "--virtual-time-budget=2000", *options, "--dump-dom", file.as_uri()),
    ]
    told = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return told.stdout, re.findall(r"CONSOLE.*", told.stderr)


KEYBOARD = """<script>
const area = document.querySelector(".area");
area.focus();
for (const key of ["ArrowRight", "ArrowRight"]) area.dispatchEvent(new KeyboardEvent("keydown", {key}));
const wide = document.documentElement.scrollWidth - innerWidth;
document.title = `focused ${document.activeElement === area}, ${wide <= 0 ? "fits" : "too wide by " + wide}`;
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(not any(browsers()), reason="needs Chromium")
def test_a_browser_opens_it_without_a_word_and_keys_read_its_curves(whole: str, tmp_path: Path) -> None:
    played = [block for kind in ("screens", "body") for block in blocks_of(kind)]
    more = html([Section("played", "Played", played)], "")
    frame = more[more.index("<section") : more.index("</main>")]
    text = whole.replace("</main>", f"{frame}</main>").replace("</body>", f"{KEYBOARD}</body>")
    for width in (400, 1400):
        seen, console = opened(text, tmp_path, f"--window-size={width},900")
        assert console == []
        assert "<title>focused true, fits</title>" in seen
        assert re.search(r'<output class="reading"[^>]*>environment steps 200: ', seen)
        assert "Pause</button>" in seen
    assert any(isinstance(block, Frame) for block in played)
    _, console = opened(text.replace("</main>", '<img src="http://example.org/x.png"></main>'), tmp_path)
    assert "Content Security Policy" in " ".join(console)  # so the silence above says something
