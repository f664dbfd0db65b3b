"""Train: fit the model to the train subset and keep its best epoch.

Reads the packed inputs and the split's train and validation subsets, never the test subset. Writes ``models/`` (the
model for inference and its card) and ``reports/history.csv``. Each training is one MLflow run; evaluate and report
record into the same run.
"""

from __future__ import annotations

from manyheads.config.differences import differences
from manyheads.config.schema import Config
from manyheads.paths import Paths
from manyheads.tracking import runs
from manyheads.training import fingerprint
from manyheads.training.tracked import train_and_record


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Train the configured model, or continue its training after the last epoch of a stopped one."""
    fingerprint.log_unfinished_training(config, inputs)
    train_and_record(config, inputs, outputs, runs.spec_of_differences(differences(config, inputs.root)))
