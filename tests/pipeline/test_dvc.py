"""The whole pipeline in DVC, in a fresh clone, with a model of a few thousand parameters.

The stages' processes are forked from one that has imported TensorFlow; DVC itself runs as a user's does.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from dvc.repo import Repo

from cloning import copy_project
from manyheads.__main__ import OTHERS, STAGES

ROOT = Path(__file__).parents[2]
TINY = [
    "train.epochs=1",
    "model.widths=[8,8]",
    "model.blocks=[1,1]",
    "inputs.image.image_size=16",
    "train.batch_size=256",
]
TINY += ["audit.folds=2", "audit.epochs=1"]

NOT_OURS = ("MLFLOW_", "DVC_", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
UP_TO_DATE = "Data and pipelines are up to date."

pytestmark = pytest.mark.slow


class Clone:
    """A committed copy of the project as it stands, with what git ignores left out; or a git clone that is there."""

    def __init__(self, folder: Path, python: str):
        self.root = folder
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)},
            "PATH": os.pathsep.join([str(Path(python).parent), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@example.org",
            "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@example.org",
        }  # fmt: skip
        if (folder / ".git").exists():
            return
        copy_project(folder)
        self.run("git", "init", "-q")
        self.run("python", "-m", "manyheads", "params", *TINY, PYTHONPATH="src")
        self.commit("clone")

    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            command, cwd=self.root, env=self.environment | environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", message)

    def up_to_date(self) -> bool:
        """Return whether ``dvc status`` has nothing to say."""
        with Repo(str(self.root)) as repo:
            return repo.status() == {}

    def runs(self) -> list[mlflow.entities.Run]:
        mlflow.set_tracking_uri(f"sqlite:///{self.root}/mlflow.db")
        return mlflow.MlflowClient().search_runs(["1"], order_by=["start_time ASC"])


@pytest.fixture(scope="module")
def clone(tmp_path_factory, warm_python):
    made = Clone(tmp_path_factory.mktemp("clone"), warm_python)
    made.run("dvc", "repro")
    return made


def test_repro_leaves_every_output_and_one_finished_run(clone):
    metrics = json.loads((clone.root / "reports/metrics.json").read_text())
    assert metrics["n"] > 450
    (run,) = clone.runs()
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/score"] == metrics["score"]
    lock = (clone.root / "dvc.lock").read_text()
    assert all(entry.dataset.digest in lock for entry in run.inputs.dataset_inputs)
    rejected = (clone.root / "data/rejected.csv").read_text().splitlines()
    undecodable = (clone.root / "data/packed/rejected.csv").read_text().splitlines()
    assert rejected[0] == undecodable[0] == "path,stage,code,reason"
    assert len(rejected) > 4
    assert len(undecodable) > 4


def test_repro_again_is_up_to_date(clone):
    assert UP_TO_DATE in clone.run("dvc", "repro")
    assert len(clone.runs()) == 1


@pytest.fixture(scope="module")
def fresh(clone, tmp_path_factory, warm_python):
    """Return a fresh clone of the project with its lock, in which every stage ran again."""
    clone.commit("lock")
    folder = tmp_path_factory.mktemp("fresh") / "clone"
    clone.run("git", "clone", "-q", str(clone.root), str(folder))
    made = Clone(folder, warm_python)
    assert "Running stage 'train'" in made.run("dvc", "repro")
    return made


def test_a_fresh_clone_makes_the_committed_outputs_again(fresh):
    assert fresh.run("git", "status", "--porcelain") == ""
    assert fresh.run("dvc", "metrics", "diff") == ""


@pytest.mark.timeout(900)
def test_no_command_makes_a_stage_stale(fresh, tmp_path):
    """The bytecode that Python writes beside the code does not, either."""
    shutil.copy(fresh.root / "data/raw/sample.zip", tmp_path / "photographs.zip")
    (tmp_path / "mine.csv").write_text("x,label\n" + "".join(f"{i / 7},{'ab'[i % 2]}\n" for i in range(40)))
    commands = [
        *([name, *TINY] for name in STAGES),
        ["params", "--check", *TINY],
        ["new", "mine", "--from", str(tmp_path / "mine.csv")],
        ["results"],
        ["plots"],
        ["predict", str(tmp_path / "photographs.zip"), "--output", str(tmp_path / "predictions.csv")],
        ["train", "-m", *TINY, "seed=1,2"],
        ["search", "--trials", "2", *TINY],
        ["compare"],
    ]
    assert {name for name, *_ in commands} == STAGES.keys() | OTHERS.keys()
    for command in commands:
        fresh.run("python", "-m", "manyheads", *command, PYTHONPATH="src")
        assert fresh.up_to_date(), command
    bytecode = list((fresh.root / "src/manyheads").rglob("__pycache__"))
    assert {folder.parent.name for folder in bytecode} >= {"heads", "inputs", "encoders", "datasets"}
    for folder in bytecode:
        shutil.rmtree(folder)
    assert fresh.up_to_date()


def test_other_metrics_than_the_committed_ones_can_be_compared_with_them(fresh):
    """As on another machine than the one that made the lock, without its cache."""
    params = fresh.root / "params.yaml"
    params.write_text(params.read_text().replace("seed: 1\n", "seed: 2\n", 1))
    fresh.run("dvc", "repro")
    assert "score" in fresh.run("dvc", "metrics", "diff", "HEAD")
    said = fresh.run("dvc", "plots", "diff", "HEAD", "--json")
    assert "failed" not in said
    plots = json.loads(said[said.index("{") :])["data"]
    assert set(plots) == {"reports/plots/curves.csv", "reports/plots/predictions.csv"}
    assert all(plot["revisions"] == ["workspace", "HEAD"] for several in plots.values() for plot in several)


def test_metrics_and_plots_are_shown(clone):
    shown = json.loads(clone.run("dvc", "metrics", "show", "--json"))
    assert "reports/metrics.json" in json.dumps(shown)
    said = clone.run("dvc", "plots", "show", "--out", "dvc_plots")
    assert "WARN" not in said
    page = (clone.root / "dvc_plots/index.html").read_text()
    assert all(f'"{shown}"' in page for shown in ("loss", "age mae", "race accuracy", "race", "gender", "age"))


def test_results_print_the_metrics(clone):
    printed = clone.run("python", "-m", "manyheads", "results", PYTHONPATH="src")
    metrics = json.loads((clone.root / "reports/metrics.json").read_text())
    assert f"{metrics['score']:.3f}" in printed


@pytest.mark.timeout(600)
def test_the_command_that_a_sweep_recommends_gives_its_metrics_again(clone):
    clone.commit("lock")
    said = clone.run("python", "-m", "manyheads", "train", "-m", *TINY, "loss=age_heavy,race_heavy", PYTHONPATH="src")
    (command,) = [line for line in said.splitlines() if line.startswith("dvc exp run -S ")]
    clone.run(*shlex.split(command))
    runs = clone.runs()
    trials = [run for run in runs if "trial" in run.data.tags]
    best = max(trials, key=lambda run: run.data.metrics["best/val/score"])
    (promoted,) = [run for run in runs if "dvc.experiment" in run.data.tags]
    assert promoted.data.params == best.data.params
    for name in ("best/val/score", "best/val/age/mae", "last/val/race/accuracy"):
        assert promoted.data.metrics[name] == best.data.metrics[name]
    assert "test/score" in promoted.data.metrics
    assert not any(name.startswith("test/") for run in trials for name in run.data.metrics)
    assert f"name: {best.data.tags['loss']}" in (clone.root / "params.yaml").read_text()


def test_an_experiment_from_the_queue_leaves_a_run_with_the_metrics_that_dvc_has(clone):
    clone.run("git", "checkout", "-q", ".")
    overrides = [word for setting in TINY for word in ("-S", setting)]
    clone.run("dvc", "exp", "run", "--queue", *overrides, "-S", "loss=gender_heavy")
    clone.run("dvc", "queue", "start")
    deadline = time.monotonic() + 200
    while "Success" not in (status := clone.run("dvc", "queue", "status")):
        assert "Failed" not in status
        assert time.monotonic() < deadline, status
        time.sleep(1)
    runs = [run for run in clone.runs() if "dvc.experiment" in run.data.tags]
    assert "gender_heavy" in {run.data.tags["loss"] for run in runs}
    assert all(run.info.status == "FINISHED" for run in runs)
    shown = json.loads(clone.run("dvc", "exp", "show", "--json"))
    in_dvc = {
        experiment["name"]: experiment["revs"][0]["data"]["metrics"]["reports/metrics.json"]["data"]["score"]
        for baseline in shown
        for experiment in baseline["experiments"] or []
    }
    assert in_dvc == {run.data.tags["dvc.experiment"]: run.data.metrics["test/score"] for run in runs}
    assert len(in_dvc) == 2


def test_missing_photographs_say_where_they_come_from(clone):
    clone.run("git", "checkout", "-q", ".")
    done = subprocess.run(
        ["dvc", "exp", "run", "-S", "experiment=hour"],
        cwd=clone.root,
        env=clone.environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "non-commercial research" in done.stderr
    assert "data/raw/UTKFace.tar.gz" in done.stderr
