"""The whole pipeline in DVC, in a fresh clone, with a model of a few thousand parameters.

The stages' processes are forked from one that has imported TensorFlow; DVC itself runs as a user's does.
"""

import json
import re
import shlex
import shutil
import time

import pytest

from clones import Clone
from manyheads.__main__ import OTHERS, STAGES

TINY = [
    "train.epochs=1",
    "model.stem=[8]",
    "model.widths=[8]",
    "model.blocks=[1]",
    "inputs.image.image_size=16",
    "train.batch_size=256",
    "train.optimizer=sgd",
]
TINY += ["audit.folds=0"]  # its trainings are those of tests/stages/test_audit.py and of the storm

UP_TO_DATE = "Data and pipelines are up to date."

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clone(tmp_path_factory, warm_python):
    made = Clone(tmp_path_factory.mktemp("clone"), warm_python, TINY)
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
        ["weights"],
        ["new", "mine", "--from", str(tmp_path / "mine.csv")],
        ["results"],
        ["plots"],
        ["predict", str(tmp_path / "photographs.zip"), "--output", str(tmp_path / "predictions.csv")],
        ["train", "-m", *TINY, "seed=2"],
        ["search", "--trials", "1", *TINY],
        ["compare"],
        ["register"],
        ["export", "--format", "onnx"],
    ]
    # These serve until they are stopped (tests/tracking/test_ui.py, tests/serving/test_command.py).
    assert {name for name, *_ in commands} == STAGES.keys() | OTHERS.keys() - {"ui", "serve"}
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
    params.write_text(params.read_text().replace("learning_rate: 0.003\n", "learning_rate: 0.03\n", 1))
    assert "Running stage 'train'" in fresh.run("dvc", "repro")
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
    for name in ("best/val/score", "best/val/age/mae", "val/race/accuracy"):
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


@pytest.mark.timeout(600)
def test_training_on_packed_data_of_another_dataset_says_the_commands_that_help(clone):
    """The command is run word for word, and the training then trains on the other dataset."""
    clone.run("git", "checkout", "-q", ".")
    shutil.copy(clone.root / "data/raw/sample.zip", clone.root / "data/raw/UTKFace.zip")
    # Images, heads and columns have the same names and shapes, so that nothing else would fail.
    train = ["train", "data=utkface", "data.path=data/raw/UTKFace.zip", "inputs.image.image_size=16", "model=small"]
    train += ["data.max_reject_fraction=0.1", "debug=fast", "train.flip_tta=false"]
    refused = clone.fails("python", "-m", "manyheads", *train)
    assert "the packed data was made with data.name=sample, but this configuration has data.name=utkface" in refused
    (command,) = re.findall(r"run `([^`]+)`", refused)
    clone.run("bash", "-c", command, PYTHONPATH="src")
    said = clone.run("python", "-m", "manyheads", *train, PYTHONPATH="src")
    assert "best epoch 1 of 1" in said
    assert json.loads((clone.root / "models/model.json").read_text())["data"] == "utkface"


def test_missing_photographs_say_where_they_come_from(clone):
    clone.run("git", "checkout", "-q", ".")
    said = clone.fails("dvc", "exp", "run", "-S", "experiment=hour")
    assert "non-commercial research" in said
    assert "data/raw/UTKFace.tar.gz" in said
