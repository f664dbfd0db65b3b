"""Train: fit the model to the training subset and keep its best epoch.

Reads the packed inputs and the split's train and validation subsets, never the test subset. Writes ``models/`` (the
model for inference and its card) and ``reports/history.csv``. Each training that is executed is one MLflow run;
evaluate and report write into the same one.
"""

from __future__ import annotations

from manyheads.config.schema import Config
from manyheads.paths import Paths
from manyheads.training import fingerprint
from manyheads.training.tracked import train_and_record


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Train the configured model; the same command continues a training that was stopped."""
    fingerprint.log_unfinished_training(config, inputs)
    train_and_record(config, inputs, outputs)
