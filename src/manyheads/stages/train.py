"""Train: fit the model to the training part and keep its best epoch.

Reads the packed images and the split's train and validation parts, never the test part. Writes ``models/`` (the model
for inference, its card and the id of its MLflow run) and ``reports/history.csv``. One MLflow run for each training
that is executed; evaluate writes into the same one.
"""

from __future__ import annotations

from manyheads import training
from manyheads.config import Config
from manyheads.layout import Layout


def run(config: Config, inputs: Layout, outputs: Layout) -> None:
    """Train the configured model; the same command goes on with a training that was stopped."""
    training.mention_another(config, inputs)
    training.train(config, inputs, outputs)
