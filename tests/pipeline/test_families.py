"""Every kind of head and of input, one of each from outside, through every command."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from conftest import ROOT, SETTINGS_OF_THE_USER, write_lock
from manyheads.config import composition
from manyheads.data.tables import read_predictions
from manyheads.evaluation.paired import pair
from manyheads.heads import HEADS
from manyheads.inputs import INPUTS
from manyheads.paths import Paths
from manyheads.stages import audit, evaluate, pack, parse, report, source, split, train

pytestmark = pytest.mark.slow

SAMPLES = 160

# The outside head writes what Head asks for and nothing else. The outside input has four dimensions in a batch, as an
# image has, and is neither augmented nor mirrored.
OUTSIDE = '''
from pathlib import Path
from typing import Literal

import numpy as np

from manyheads.datasets import Documentation, NamedImages, Record
from manyheads.encoders.base import Encoder
from manyheads.heads import Head, Metric
from manyheads.inputs.base import Encoded, Input

LABELS = ("age", "race", "gender", "height", "position", "box", "count")


def parse_name(path):
    cells = Path(path).stem.split("_")
    return Record({name: cell.replace("+", " ") for name, cell in zip(LABELS, cells)})


DATASET = NamedImages(Documentation(*["Made by a test."] * 8), parse_name)


class Counted(Head):
    """A count whose main metric is the share of predictions that are off by more than one."""

    kind: Literal["outside.everything:Counted"]
    most: int

    @property
    def loss_functions(self):
        return ("poisson",)

    @property
    def metrics(self):
        return (Metric(name="missed", label="missed", greater_is_better=False, digits=4),)

    def read(self, value):
        if value in (None, ""):
            return (None,)
        if not 0 <= int(value) <= self.most:
            raise ValueError(f"{value} is outside 0-{self.most}")
        return (int(value),)

    def outputs(self, features, loss, statistics):
        import keras

        dense = keras.layers.Dense(1, activation="softplus", dtype="float32", name=self.name)
        return {self.name: dense(features)}

    def loss(self, function, statistics):
        import keras

        poisson = keras.losses.Poisson()
        return lambda targets, outputs: poisson(targets[self.name], outputs[self.name])

    def values(self, outputs):
        return outputs[:, 0].astype(np.float64)

    def _contributions(self, labels, outputs):
        return np.stack([np.ones(len(labels)), np.abs(self.values(outputs) - labels) > 1], axis=1)

    def compute_metrics(self, sums):
        with np.errstate(invalid="ignore"):
            return {"missed": sums[..., 1] / sums[..., 0]}


class Grid(Input):
    """A square of numbers, separated by blanks."""

    kind: Literal["outside.everything:Grid"]
    width: int

    @property
    def shape(self):
        return (self.width, self.width, 1)

    @property
    def dtype(self):
        return "float32"

    def encode(self, data):
        return Encoded(np.array([float(word) for word in data.split()], np.float32).reshape(self.shape))

    def tensor(self, name):
        import keras

        return keras.Input(self.shape, dtype="float32", name=name)


class Joined(Encoder):
    """The mean of each input, joined for every head."""

    encoder: Literal["outside.everything:Joined"]

    def conflict_with(self, inputs):
        return None

    def features(self, inputs, tensors, heads, precision, *, folded):
        import keras

        read = []
        for name, tensor in tensors.items():
            if inputs[name].kind == "text":
                tensor = keras.layers.Embedding(inputs[name].vocabulary, 4, name=f"{name}_embedded")(tensor)
                read.append(keras.layers.GlobalAveragePooling1D(name=name + "_mean")(tensor))
            elif inputs[name].kind == "numbers":
                read.append(tensor)
            else:
                scaled = keras.layers.Rescaling(1 / 255, name=f"{name}_scaled")(tensor)
                read.append(keras.layers.Flatten(name=f"{name}_flat")(scaled))
        joined = keras.layers.Concatenate(name="joined")(read) if len(read) > 1 else read[0]
        features = keras.layers.Dense(8, activation="relu", name="dense")(joined)
        return dict.fromkeys(heads, features)
'''

EXPERIMENT = {
    "defaults": [{"override /data": None}, {"override /model": None}, {"override /loss": None}],
    "extensions": ["outside"],
    "audit": {"folds": 2, "epochs": 1},
    "data": {
        "name": "table",
        "path": "data/raw/everything.csv",
        "max_reject_fraction": 0.0,
        "heads": {
            "age": {"kind": "regression", "unit": "years", "minimum": 0, "maximum": 99, "bins": [50], "tolerance": 5},
            "race": {"kind": "categorical", "classes": ["none", "a", "b"]},
            "gender": {"kind": "binary", "classes": ["f", "m"]},
            "height": {"kind": "vector", "unit": "m", "minimum": 0, "maximum": 9},
            "position": {"kind": "vector", "unit": "m", "width": 2, "minimum": -9, "maximum": 9},
            "box": {"kind": "box", "of": "race"},
            "count": {"kind": "outside.everything:Counted", "most": 20},
        },
    },
    "inputs": {
        "text": {"kind": "text", "vocabulary": 50, "length": 4},
        "numbers": {"kind": "numbers", "width": 2},
        "grid": {"kind": "outside.everything:Grid", "width": 2},
    },
    "model": {"encoder": "outside.everything:Joined"},
    "loss": {
        "name": "everything",
        "scale": "standard",
        "functions": {
            "age": "soft_label", "race": "logit_adjusted", "gender": "binary_crossentropy", "height": "mae",
            "position": "huber", "box": "localisation", "count": "poisson",
        },
        "weighting": "fixed",
        "weights": dict.fromkeys(["age", "race", "gender", "height", "position", "box", "count"], 1.0),
    },
    "train": {"epochs": 2, "batch_size": 32, "learning_rate": 0.01, "optimizer": "sgd",
              "precision": "float32", "deterministic": True},
}  # fmt: skip

# An image has the other possibilities: augmentation, a mirror image, thumbnails, duplicates that are not byte-equal.
IMAGE = {
    "data": {"name": "outside.everything:DATASET", "path": "data/raw/everything"},
    "inputs": {"image": {"kind": "image", "image_size": 16, "duplicate_correlation": 0.999}},
}


def rows():
    """Return the labels of each sample as the raw data has them; a few are missing."""
    generator = np.random.default_rng(0)
    for _ in range(SAMPLES):
        race, age = int(generator.integers(0, 3)), int(generator.integers(1, 99))
        box = [f"{value:.2f}" for value in generator.uniform(0.1, 0.4, 4)]
        yield {
            "age": "" if age < 6 else str(age), "race": str(race), "gender": str(int(age > 50)),
            "height": f"{age / 20:.2f}", "position": f"{race} {-race}", "box": " ".join(box) if race else "",
            "count": str(age // 10),
        }  # fmt: skip


def write_table(folder):
    table = pd.DataFrame(rows())
    age, race = table["age"].replace("", "3").astype(int), table["race"].astype(int)
    table["text"] = ["old man" if a > 50 else "young woman" for a in age]
    table["numbers"] = [f"{a / 50} {r}" for a, r in zip(age, race, strict=True)]
    table["grid"] = [f"{a} {r} {r} {a}" for a, r in zip(age, race, strict=True)]
    table.to_csv(folder / "everything.csv", index=False)
    return ["everything.csv"]


def write_images(folder):
    (folder / "everything").mkdir()
    generator = np.random.default_rng(1)
    names = []
    for number, row in enumerate(rows()):
        pixels = np.full((20, 20, 3), [50 + 60 * int(row["race"]), 2 * int(row["age"] or 3), 90.0])
        pixels += generator.normal(0, 25, pixels.shape)
        names.append("_".join([*(value.replace(" ", "+") for value in row.values()), f"{number}.jpg"]))
        buffer = io.BytesIO()
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
        (folder / "everything" / names[-1]).write_bytes(buffer.getvalue())
    return [f"everything/{name}" for name in names]


class Project:
    """A project with all kinds of heads, trained and evaluated with two seeds."""

    def __init__(self, root, store, name, warm_python):
        self.paths, self.warm_python = Paths(root), warm_python
        for variable in SETTINGS_OF_THE_USER:  # MLflow writes its store's address there
            os.environ.pop(variable, None)
        shutil.copytree(ROOT / "conf", root / "conf")
        shutil.copy(ROOT / "dvc.yaml", root)
        shutil.copy(store, root / "mlflow.db")
        (root / "outside").mkdir()
        (root / "outside/everything.py").write_text(OUTSIDE)
        settings = EXPERIMENT
        if name == "image":
            settings = EXPERIMENT | {"data": EXPERIMENT["data"] | IMAGE["data"], "inputs": IMAGE["inputs"]}
        text = "# @package _global_\n" + yaml.safe_dump(settings, sort_keys=False)
        (root / "conf/experiment/everything.yaml").write_text(text)
        (root / "data/raw").mkdir(parents=True)
        self.samples = [
            root / "data/raw" / file for file in (write_images if name == "image" else write_table)(root / "data/raw")
        ]
        sys.path.insert(0, str(root))
        self.config = composition.compose(root, ["experiment=everything"])
        for stage in (source, parse, pack, split, audit):
            stage.run(self.config, self.paths, self.paths)
        for seed in (2, 1):
            seeded = self.config.model_copy(update={"seed": seed})
            train.run(seeded, self.paths, self.paths)
            evaluate.run(seeded, self.paths, self.paths)
        report.run(self.config, self.paths, self.paths)
        write_lock(self.paths, self.config)
        self.command("params", "experiment=everything")
        mlflow.set_tracking_uri(f"sqlite:///{root}/mlflow.db")
        self.runs = [run.info.run_id for run in mlflow.MlflowClient().search_runs(["1"])]

    def command(self, *arguments):
        environment = os.environ | {"PYTHONPATH": str(self.paths.root), "COLUMNS": "200"}
        done = subprocess.run(
            [self.warm_python, "-m", "manyheads", *map(str, arguments)],
            cwd=self.paths.root, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


@pytest.fixture(scope="module", params=["table", "image"])
def project(request, tmp_path_factory, migrated_store, warm_python):
    yield Project(tmp_path_factory.mktemp(request.param), migrated_store, request.param, warm_python)
    sys.path.pop(0)
    for name in ("outside", "outside.everything"):
        sys.modules.pop(name, None)


def test_every_kind_takes_part():
    kinds = {head["kind"] for head in EXPERIMENT["data"]["heads"].values()}
    assert kinds == set(HEADS) | {"outside.everything:Counted"}
    inputs = {each["kind"] for each in (EXPERIMENT["inputs"] | IMAGE["inputs"]).values()}
    assert inputs == set(INPUTS) | {"outside.everything:Grid"}


def test_evaluate_gives_every_metric_of_every_head(project):
    metrics = json.loads(project.paths.metrics.read_text())
    for name, head in project.config.data.heads.items():
        known = {metric.name for metric in head.metrics}
        assert head.main_metric in metrics[name]
        assert set(metrics[name]) <= known
        assert head.main_metric in metrics["baseline"][name]
        assert (project.paths.head_reports / f"{name}.txt").stat().st_size


def test_the_report_shows_every_head(project):
    page = project.paths.report.read_text(encoding="utf-8")
    text = re.sub(r"<[^>]+>", " ", re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL))
    for name in project.config.data.heads:
        assert f"{name}:" in page
    assert "missed" in text
    assert not re.search(r"\bnan\b|\bNone\b", text)
    pictured = "image" in project.config.inputs
    assert ("data:image/jpeg" in page) == pictured
    card = project.paths.model_card.read_text(encoding="utf-8")
    assert "photograph" not in card + text
    issues = pd.read_csv(project.paths.label_issues)
    assert set(issues["head"]) == set(project.config.data.heads)


def test_compare_shows_every_heads_main_metric(project):
    output = project.command("compare", *project.runs)
    page = (project.paths.root / "reports/comparison/comparison.html").read_text(encoding="utf-8")
    for name, head in project.config.data.heads.items():
        assert name in output
        assert (
            f"best/val/{name}/{head.main_metric}" in (project.paths.root / "reports/comparison/trials.csv").read_text()
        )
    assert "missed" in page


def test_compare_on_test_pairs_every_head_and_a_table_with_itself(project):
    output = project.command("compare", "--test", *project.runs)
    for name in project.config.data.heads:
        assert name in output
    heads = project.config.data.heads
    table = read_predictions(project.paths.predictions, heads)
    same = pair(heads, table, table)
    assert {row.head for row in same.differences} == set(heads)
    assert not [row for row in same.differences if row.better is not None or row.difference.value]


def test_a_sweep_compares_every_head(project):
    output = project.command("train", "-m", "experiment=everything", "seed=3,4", "train.epochs=1")
    (folder,) = project.paths.sweeps.iterdir()
    trials = pd.read_csv(folder / "trials.csv")
    assert trials["status"].tolist() == ["FINISHED"] * 2
    for name, head in project.config.data.heads.items():
        assert trials[f"best/val/{name}/{head.main_metric}"].notna().all()
        assert trials[f"best/val/{name}/skill"].notna().all()
    assert "dvc exp run -S" in output


def test_predict_gives_the_columns_and_values_that_evaluate_gave(project):
    target = project.paths.root / "predicted.csv"
    sources = [project.samples[0].parent] if len(project.samples) > 1 else project.samples
    project.command("predict", *sources, "--output", target)
    evaluated = pd.read_csv(project.paths.predictions).set_index("path")
    predicted = pd.read_csv(target).set_index("path").loc[evaluated.index]
    for head in project.config.data.heads.values():
        for column in [*head.label_columns, *(name for name in head.extra_columns if name in evaluated)]:
            if evaluated[column].dtype == float:
                np.testing.assert_allclose(predicted[column], evaluated[column], atol=0.02)
            else:
                assert (predicted[column] == evaluated[column]).all()
    # Of the samples of the test subset, about as many are far from the training as of validation.
    assert predicted["note"].notna().mean() < 0.2


def test_predict_notes_what_is_unlike_the_training_data(project):
    card = json.loads((project.paths.model / "model.json").read_text())
    assert card["reference"]["distance_limit"] >= 0  # 0 if the features of a network this small are constant
    assert (project.paths.model / "directions.npy").stat().st_size < 300_000
    target = project.paths.root / "unlike.csv"
    if "image" in card["inputs"]:
        new = project.paths.root / "new.png"
        Image.new("RGB", (90, 30)).save(new)
        expected = ["aspect ratio 3, in training 1", "contrast 0, in training"]
    else:
        new = project.paths.root / "new.csv"
        new.write_text("text,numbers,grid\n" + "old man " * 9 + ",500 1,1 1 1 1\n")
        expected = ["text: tokens 18, in training 2", "numbers: number 1 500, in training 0.06 to", "distance "]
    project.command("predict", new, "--output", target)
    (note,) = pd.read_csv(target)["note"]
    for words in expected:
        assert words in note


def test_results_names_a_next_step_of_this_project(project):
    output = project.command("results")
    for name in project.config.data.heads:
        assert name in output
    assert "age_heavy" not in output
