"""Fixtures of several test files: real configurations and a tiny project on disk."""

import functools
import gc
import importlib
import io
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from forking import forking_python
from manyheads.config import composition
from manyheads.config.schema import Config
from manyheads.data.tables import write_table
from manyheads.paths import Paths
from manyheads.preprocessing.split_counts import count_split
from manyheads.runtime import tensorflow
from manyheads.runtime.files import write_text
from manyheads.tracking import dvc
from manyheads.training import label_issues
from stores import empty_store

ROOT = Path(__file__).parents[1]

# Some developers set this variable and users do not. It would hide errors from the bytecode that Python writes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Tracing a network makes a million objects and little garbage. With Python's threshold, a fifth of it is collections.
gc.set_threshold(20_000, 50, 50)

TINY = [
    "inputs.image.image_size=16",
    "model.stem=[8]",
    "model.widths=[8]",
    "model.blocks=[1]",
    "model.dropout=0",
    "train.epochs=3",
    "train.batch_size=32",
    "train.learning_rate=0.01",
    "train.optimizer=sgd",
]
"""Half the time of a tiny training is the tracing of its blocks and of its optimizer; this one has the fewest steps."""

TWO_BLOCKS = ["model.widths=[8,16]", "model.blocks=[1,1]"]
"""For ``TINY`` where the network has to learn something."""

HEAVIEST = ("test_dvc.py", "test_datasets_page.py", "test_systems.py", "test_families.py", "test_storm.py",
            "test_launchers.py", "test_sharing.py")  # fmt: skip
"""Files of minutes with few tests, the longest first."""


@functools.cache
def compose(*overrides: str) -> Config:
    """Compose the real ``conf/`` with overrides; the frozen result is shared."""
    return composition.compose(ROOT, overrides)


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    """Return a function that composes the real ``conf/`` with overrides."""
    return compose


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., Config]:
    """Return a function that composes settings of a small model: images of 16 pixels, a few thousand parameters."""
    return lambda *overrides: compose(*TINY, *overrides)


@pytest.fixture(scope="session")
def migrated_store() -> Path:
    """Return an empty MLflow store for tests to copy."""
    return empty_store()


@pytest.fixture(scope="session")
def warm_python() -> Iterator[str]:
    """Return a program that stands for Python and has imported TensorFlow before; see ``forking``."""
    with forking_python() as program:
        yield program


SETTINGS_OF_THE_USER = ("MLFLOW_TRACKING_URI", "DVC_ROOT", "DVC_STAGE", "DVC_EXP_NAME")


@pytest.fixture(autouse=True)
def _no_settings_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS_OF_THE_USER:
        monkeypatch.delenv(name, raising=False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the heaviest files and then those with many slow tests first, so that workers end at about the same time."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    rank = {name: number for number, name in enumerate(HEAVIEST)}
    items.sort(key=lambda item: (rank.get(item.path.name, len(rank)), -slow[item.path]))


def jpeg(seed: int, mode: str = "RGB") -> bytes:
    """Return a JPEG of 64 x 64 random, smooth pixels."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).convert(mode).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def tiny_project(tmp_path: Path, migrated_store: Path) -> Paths:
    """Return a folder with the outputs of pack and split, and an empty MLflow store."""
    return make_tiny_project(tmp_path, migrated_store)


@functools.cache
def keep_libraries() -> None:
    """Take what TensorFlow and other libraries consist of out of garbage collections: each training starts with one."""
    # GTO closes all handlers of logs at its import, and that of TensorFlow its stream: the file of a test's output.
    importlib.import_module("gto.log")
    tensorflow.require_tensorflow()
    gc.freeze()


def make_tiny_project(folder: Path, store: Path) -> Paths:
    """Write 300 packed samples that a small network can classify, split 3 to 1 to 1.

    Race is the colour, gender the brighter half, age the brightness.
    """
    for name in SETTINGS_OF_THE_USER:  # MLflow keeps its store's address there, and module fixtures come first
        os.environ.pop(name, None)
    keep_libraries()
    shutil.copy(store, folder / "mlflow.db")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, folder)
    (folder / "conf").symlink_to(ROOT / "conf")
    layout = Paths(folder)
    generator = np.random.default_rng(0)
    n, size = 300, 16
    race, gender, age = (
        generator.integers(0, 5, n),
        generator.integers(0, 2, n),
        generator.integers(1, 100, n),
    )
    colours = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
    images = colours[race][:, None, None, :] * (60 + age)[:, None, None, None] * np.ones((n, size, size, 1))
    bright = np.arange(size)[None, :] // (size // 2) == gender[:, None]
    images = images + 60 * bright[:, None, :, None] + generator.normal(0, 4, images.shape)
    layout.samples.parent.mkdir(parents=True)
    np.save(layout.packed("image"), np.clip(images, 0, 255).astype(np.uint8))
    digests = [f"{i:064x}" for i in range(n)]
    paths = [
        f"UTKFace/{a}_{g}_{r}_{20170000000000000 + i}.jpg"
        for i, (a, g, r) in enumerate(zip(age, gender, race, strict=True))
    ]
    common = {"path": paths, "sha256": digests, "group": [digest[-16:] for digest in digests]}
    labels = {"age": age, "race": race, "gender": gender}
    samples = pd.DataFrame({"row": range(n), "path": paths, **labels, **common, "note": ""})
    write_table(layout.samples, samples)
    write_table(layout.properties, pd.DataFrame({"row": range(n), "image/aspect ratio": 1.0}))
    subset = np.where(np.arange(n) % 5 == 4, "test", np.where(np.arange(n) % 5 == 3, "validation", "train"))
    splits = pd.DataFrame({**common, "subset": subset, "rule": ""})
    write_table(layout.splits, splits)
    counts = count_split(samples, compose().data.heads, splits, {})
    write_text(layout.split_counts, json.dumps(counts))
    write_table(layout.label_issues, pd.DataFrame(columns=label_issues.COLUMNS))
    none = pd.DataFrame(columns=["path", "stage", "code", "reason"])
    for rejected in (layout.rejected, layout.undecodable):
        write_table(rejected, none)
    return layout


@pytest.fixture
def wine_project(tmp_path: Path) -> Path:
    """Return a project with a dataset that has heads and inputs alone."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf/data/wine.yaml").write_text("""# @package _global_
defaults: [override /model: default, override /loss: default, override /train: base]
audit: {folds: 0}
data:
  name: table
  path: data/raw/wine.csv
  max_reject_fraction: 0.01
  columns: {features: [pH, fixed acidity], quality: Quality}
  heads:
    quality: {kind: regression, unit: points, minimum: 0, maximum: 9, bins: [5], tolerance: 1}
    colour: {kind: binary, classes: [red, white]}
inputs:
  features: {kind: numbers, width: 2}
""")
    return tmp_path


def make_sweep_project(folder: Path, store: Path) -> Paths:
    """Write a tiny project in which sweeps and searches run: with a ``dvc.lock``."""
    layout = make_tiny_project(folder, store)
    write_lock(layout, compose(*TINY))
    return layout


def write_lock(layout: Paths, config: Config) -> None:
    """Write a ``dvc.lock`` with the entries of pack and split for a tiny project."""
    values = config.model_dump(mode="json")
    outputs = {"pack": "data/packed", "split": "data/splits.csv"}
    keys = {"pack": ("data", "inputs"), "split": ("split",)}
    stages = {
        stage: {
            "params": {"params.yaml": {key: values[key] for key in keys[stage]}},
            "outs": [{"path": path, "md5": dvc.dvc_digest(layout.root / path)}],
        }
        for stage, path in outputs.items()
    }
    (layout.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
