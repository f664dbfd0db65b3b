"""Train: fit the model to the training part and keep its best epoch.

Reads the packed images and the split's train and validation parts, never the test part. Writes ``models/`` (the model
for inference, its card and the id of its MLflow run) and ``reports/history.csv``. One MLflow run for each training
that is executed; evaluate writes into the same one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from manyheads import model as models
from manyheads import tracking, training
from manyheads.config import Config
from manyheads.files import sha256_of, write_aside
from manyheads.heads import Scale
from manyheads.layout import Layout, main_project
from manyheads.parts import Part, label_table, load_part
from manyheads.tables import write_table

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Layout, outputs: Layout) -> None:
    """Train the configured model; the same command goes on with a training that was stopped."""
    models.require_tensorflow()
    train, validation = load_part(config, inputs, "train"), load_part(config, inputs, "validation")
    state = Layout(main_project(inputs.root)).resume / f"{identity(config, inputs)}.npz"
    with training.alone(state):
        _train(config, inputs, outputs, train, validation, state)


def _train(config: Config, inputs: Layout, outputs: Layout, train: Part, validation: Part, state: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(config.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    heads, loss = config.data.heads, config.loss
    scales = {name: head.scale(loss.scale, train.labels[name]) for name, head in heads.items()}
    network = models.build(config.model, heads, loss.functions, scales, config.pack.image_size, config.train.precision)
    steps = max(1, len(train) // config.train.batch_size)
    optimizer = training.optimizer_for(config.train, steps)
    models.compile_heads(network, heads, loss.functions, loss.weights, scales, optimizer)
    progress = training.resume(state, network)
    if progress.history:
        logger.info("going on after epoch %d (%s)", len(progress.history), state)
    logger.info(
        "training %s parameters on %d images, judged on %d, in %d epochs",
        f"{network.count_params():,}", len(train), len(validation), config.train.epochs,
    )  # fmt: skip
    start = time.monotonic()
    tags = {
        **tracking.provenance(inputs.root),
        "loss": loss.name,
        "encoder": config.model.encoder,
        "data": config.data.name,
    }
    with tracking.run(
        config.tracking, inputs.root, f"{config.data.name}-{config.model.encoder}-{loss.name}", progress.run_id, tags
    ) as record:
        progress.run_id = record.run_id
        record.params(config.model_dump() | {"parameters": network.count_params()})
        record.dataset(label_table(train), f"{config.data.name}-train", config.data.path, "training")
        record.missing_epochs(progress.history)
        training.fit(
            network, heads, train, validation, config.train, config.seed, state, progress,
            on_epoch=lambda epoch, row: record.metrics(row, step=epoch),
        )  # fmt: skip
        best = progress.history[progress.best_epoch - 1]
        summary = {f"best/{name}": value for name, value in best.items() if name.startswith("val/")}
        summary |= {
            "best/epoch": progress.best_epoch,
            "wall_seconds": sum(row["train/seconds"] for row in progress.history),
        }
        record.metrics(summary)
        folded = _for_inference(config, scales, network)
        _write(outputs, config, folded, progress)
        record.files(outputs.history)
        record.files(inputs.split_counts)
        record.model(folded, heads, config.pack.image_size)
    state.unlink(missing_ok=True)
    logger.info(
        "best epoch %d of %d, validation score %.3f; %.0f s",
        progress.best_epoch, config.train.epochs, best["val/score"], time.monotonic() - start,
    )  # fmt: skip


def _for_inference(config: Config, scales: Mapping[str, Scale], trained: keras.Model) -> keras.Model:
    folded = models.build(
        config.model, config.data.heads, config.loss.functions, scales, config.pack.image_size, folded=True
    )
    models.fold(trained, folded)
    return folded


def _write(outputs: Layout, config: Config, model: keras.Model, progress: training.Progress) -> None:
    history = pd.DataFrame(progress.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    # Seconds differ from run to run; DVC would take the file for changed. They are in MLflow.
    write_table(outputs.history, history.drop(columns="train/seconds"))
    card = models.ModelCard(data=config.data.name, size=config.pack.image_size, heads=config.data.heads)
    with write_aside(outputs.model) as folder:
        folder.mkdir()
        models.save(folder, model, card)
        (folder / outputs.run_record.name).write_text(json.dumps({"run_id": progress.run_id}) + "\n", encoding="utf-8")


def identity(config: Config, inputs: Layout) -> str:
    """Return a digest of all that shapes a training: settings, data, split, code and library versions.

    The samples table holds the hash of every image's bytes, so the array itself need not be read.
    """
    relevant = config.model_dump(mode="json", include={"seed", "model", "loss", "train", "pack"})
    relevant["heads"] = config.model_dump(mode="json")["data"]["heads"]
    package = Path(__file__).parents[1]
    code = {path.relative_to(package).as_posix(): sha256_of(path) for path in sorted(package.rglob("*.py"))}
    versions = {name: version(name) for name in ("keras", "numpy")}
    parts = [relevant, sha256_of(inputs.samples), sha256_of(inputs.splits), code, versions]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
