"""Audit: rank labels that look wrong, by predictions of models that were trained without them.

Reads the packed inputs and the split's train and validation subsets, never the test subset. Writes
``reports/label_issues.csv``: for each head, the samples whose labels such a model contradicts most. It removes nothing.
A person who has reviewed the samples lists the paths of wrong ones in a file and names it as ``split.files.reviewed``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np
import pandas as pd

from manyheads.config.schema import Config
from manyheads.data.subsets import load_subset
from manyheads.data.tables import write_table
from manyheads.heads import Outputs
from manyheads.paths import Paths, brought_here
from manyheads.training import label_issues
from manyheads.training.out_of_fold import fold_checkpoint, fold_of, predict_out_of_fold, subsets_for_folds

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Rank the labels of train and validation by the disagreement of models that were trained without them."""
    if not config.audit.folds:
        write_table(outputs.label_issues, pd.DataFrame(columns=label_issues.COLUMNS))
        logger.info("audit skipped: audit.folds is 0")
        return
    heads, folds = config.data.heads, range(config.audit.folds)
    train = load_subset(inputs, heads, config.inputs, "train")
    validation = load_subset(inputs, heads, config.inputs, "validation")
    train, validation = subsets_for_folds(config, train, validation)
    fold = fold_of(train.groups, config.audit.folds, config.seed)
    predicted: list[tuple[Mapping[str, Outputs], Mapping[str, Outputs]]] = []
    for number in folds:
        held_out = int((fold == number).sum())
        logger.info(
            "fold %d of %d: training on %d samples, then predicting the other %d",
            number + 1, config.audit.folds, len(train) - held_out, held_out,
        )  # fmt: skip
        predicted.append(predict_out_of_fold(config, inputs, train, validation, fold, number))
    by_fold = train.take(np.concatenate([np.flatnonzero(fold == number) for number in folds]))
    of_train = {name: np.concatenate([each[name] for each, _ in predicted]) for name in heads}
    # No fold's model is trained on the validation labels, so all of them predict.
    of_validation = {name: np.mean([each[name] for _, each in predicted], axis=0) for name in heads}
    tables = [
        label_issues.disagreements(heads, by_fold.paths, by_fold.labels, of_train, "train"),
        label_issues.disagreements(heads, validation.paths, validation.labels, of_validation, "validation"),
    ]
    issues = label_issues.ranked(heads, tables)
    write_table(outputs.label_issues, issues)
    for number in folds:
        fold_checkpoint(config, inputs, number).unlink(missing_ok=True)
    logger.info(
        "%d labels of %d samples to look at: %s",
        len(issues), len(train) + len(validation), brought_here(outputs.label_issues, outputs.root),
    )  # fmt: skip
