"""Models in stores, made by hand for tests: their networks are not trained, their predictions are what a test wants."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import gto.log  # noqa: F401 - it closes all log handlers, and that of TensorFlow would close pytest's output with it
import numpy as np
import pandas as pd
import yaml

from builders import objective_for
from conftest import ROOT
from manyheads.config.schema import Config
from manyheads.encoders import CompactEncoder
from manyheads.heads import LabelStatistics
from manyheads.modeling import saving
from manyheads.modeling.build import build_network
from manyheads.runtime import tensorflow
from manyheads.tracking import dvc, runs

LOSSES = {"age": "mae", "race": "categorical_crossentropy", "gender": "categorical_crossentropy"}


def save_model(folder: Path, config: Config, seed: int) -> None:
    """Save a small network with random weights as the model of a configuration."""
    tensorflow.require_tensorflow()
    import keras

    keras.utils.set_random_seed(seed)
    encoder = CompactEncoder(stem=(8,), widths=(8,), blocks=(1,), dropout=0)
    statistics = dict.fromkeys(LOSSES, LabelStatistics(30.0, 10.0))
    network = build_network(encoder, objective_for(config.data.heads, LOSSES, statistics), config.inputs, folded=True)
    folder.mkdir(parents=True, exist_ok=True)
    saving.save(folder, network, saving.ModelCard(data="sample", inputs=config.inputs, heads=config.data.heads))


def predictions(config: Config, error: float, share_right: float, n: int = 400, seed: int = 1) -> pd.DataFrame:
    """Return predictions of the same test samples whatever the errors.

    Args:
        config: The heads.
        error: Standard deviation of the error of the age.
        share_right: Share of right classes of race and gender.
        n: Number of samples.
        seed: Seed of the errors.
    """
    generator, labels = np.random.default_rng(seed), np.random.default_rng(0)
    age, race, gender = labels.integers(0, 60, n), labels.integers(0, 5, n), labels.integers(0, 2, n)
    wrong = generator.random(n) > share_right
    columns = {"path": [f"{i}.jpg" for i in range(n)], "group": [f"{i}" for i in range(n)]}
    columns |= {"age_label": age, "age": age + generator.normal(0, error, n)}
    for name, classes in (("race", race), ("gender", gender)):
        named = np.array(config.data.heads[name].class_names)
        columns |= {f"{name}_label": named[classes], name: named[np.where(wrong, (classes + 1) % len(named), classes)]}
    return pd.DataFrame(columns)


def record_run(root: Path, config: Config, model: Path, table: pd.DataFrame | None, **tags: str) -> str:
    """Record a run of a saved model with test predictions and a card; return its id."""
    known = {"model": runs.model_tag(model), "split": "0123abcd", "data": "sample"} | tags
    with runs.run(config.tracking.experiment, root, runs.RunSpec("by hand", known)) as run:
        run.settings(config.model_dump(mode="json"))
        saved = saving.load(model)
        run.model(model, saved.keras_model, config.inputs, config.data.heads)
        if table is not None:
            file = root / "predictions.csv"
            table.to_csv(file, index=False)
            run.files(file)
            file.unlink()
            run.text("# Card\n\n- age: a number\n", "model_card.md")
            run.text(json.dumps({"model": saved.card.digest}), "evaluation.json")
        return run.run_id


class Repository:
    """A git repository with DVC in which a commit has a model, its evaluation and a ``dvc.lock``.

    Args:
        root: An existing folder.
        config: The settings of all models.
    """

    def __init__(self, root: Path, config: Config) -> None:
        self.root = root
        self.config = config
        self.run("git", "init", "-q", "-b", "main")
        for key, value in {"user.name": "t", "user.email": "t@example.org"}.items():
            self.run("git", "config", key, value)
        self.run("dvc", "init", "-q")
        if not (root / "dvc.yaml").exists():
            shutil.copy(ROOT / "dvc.yaml", root)
        (root / ".gitignore").write_text("/models\n/mlflow.db*\n/mlruns\n/.cache\n/conf\n")

    def run(self, *command: str) -> str:
        """Run a command that succeeds, and return what it prints."""
        return subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout.strip()

    def commit(self, model: Path, table: pd.DataFrame | None) -> str:
        """Commit what a training of this model, and its evaluation, would leave; return the commit."""
        files = {file.relative_to(model).as_posix(): file for file in model.iterdir()}
        listed = [{"md5": self._cached(file.read_bytes()), "relpath": name} for name, file in sorted(files.items())]
        content = json.dumps(listed, sort_keys=True).encode()
        digest = f"{self._cached(content, '.dir')}.dir"
        assert digest == dvc.dvc_digest(model)
        stages = {"train": {"outs": [{"path": "models", "hash": "md5", "md5": digest}]}}
        (self.root / "params.yaml").write_text(yaml.safe_dump(self.config.model_dump(mode="json")))
        if table is not None:
            (self.root / "reports").mkdir(exist_ok=True)
            table.to_csv(self.root / "reports/predictions.csv", index=False)
            (self.root / "reports/model_card.md").write_text("# Card\n\n- age: a number\n")
            card = json.loads((model / "model.json").read_text())
            (self.root / "reports/evaluation.json").write_text(json.dumps({"model": card["digest"]}))
            stages["evaluate"] = {"deps": [{"path": "models", "hash": "md5", "md5": digest}]}
        lock = {stage: {"cmd": "none", **entries} for stage, entries in stages.items()}
        (self.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", "a model")
        return self.run("git", "rev-parse", "HEAD")

    def _cached(self, content: bytes, ending: str = "") -> str:
        """Put a content into DVC's cache and return its digest."""
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        path = self.root / ".dvc/cache/files/md5" / digest[:2] / f"{digest[2:]}{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return digest
