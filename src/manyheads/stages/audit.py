"""Audit: rank labels that look wrong, by predictions of models that were trained without them.

Reads the packed inputs and the split's train and validation subsets, never the test subset. Writes
``reports/label_issues.csv``: for each head, the samples whose labels such a model contradicts most. It removes nothing.
A person who has reviewed the samples lists the paths of wrong ones in a file and names it as ``split.files.reviewed``.
"""

from __future__ import annotations

import logging

import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import load_subset
from manyheads.data.tables import write_table
from manyheads.paths import Paths, brought_here
from manyheads.training import label_issues
from manyheads.training.out_of_fold import fold_checkpoint, predict_out_of_fold

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Rank the labels of train and validation by the disagreement of models that were trained without them."""
    if not config.audit.folds:
        write_table(outputs.label_issues, pd.DataFrame(columns=label_issues.COLUMNS))
        logger.info("audit skipped: audit.folds is 0")
        return
    heads = config.data.heads
    train = load_subset(inputs, heads, config.inputs, "train")
    validation = load_subset(inputs, heads, config.inputs, "validation")
    of_train, of_validation = predict_out_of_fold(config, inputs, train, validation)
    tables = [
        label_issues.disagreements(heads, train.paths, train.labels, of_train, "train"),
        label_issues.disagreements(heads, validation.paths, validation.labels, of_validation, "validation"),
    ]
    issues = label_issues.ranked(heads, tables)
    write_table(outputs.label_issues, issues)
    for number in range(config.audit.folds):
        fold_checkpoint(config, inputs, number).unlink(missing_ok=True)
    logger.info(
        "%d labels of %d samples to look at: %s",
        len(issues), len(train) + len(validation), brought_here(outputs.label_issues, outputs.root),
    )  # fmt: skip
