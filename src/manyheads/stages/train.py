"""Train: fit the model to the training subset and keep its best epoch.

Reads the packed samples and the split's train and validation subsets, never the test subset. Writes ``models/`` (the
model for inference and its card) and ``reports/history.csv``. One MLflow run for each training
that is executed; evaluate writes into the same one.
"""

from __future__ import annotations

from manyheads.config.schema import Config
from manyheads.paths import Paths
from manyheads.training import fingerprint
from manyheads.training.run import train


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Train the configured model; the same command goes on with a training that was stopped."""
    fingerprint.log_unfinished_training(config, inputs)
    train(config, inputs, outputs)
