"""Audit: which labels look wrong? Every training sample is judged by a model that has not seen it.

Reads the packed samples and the split's train and validation subsets, never the test subset. Writes
``reports/label_issues.csv``: for each head, the samples whose label a model that was trained without them contradicts
most. Nothing is removed by it. To leave samples out after a look at them, put their paths into a list and name it as
``split.files.reviewed``.
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
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.training.out_of_fold import (
    checkpoint_of,
    fold_fingerprint,
    fold_masks,
    fold_of,
    ranked,
    take,
    trained_without,
)

logger = logging.getLogger(__name__)

LISTED = 200
"""Samples that are listed for each head."""

COLUMNS = ["head", "rank", "path", "subset", "label", "predicted", "disagreement"]


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Rank the labels of train and validation by how much a model disagrees that was trained without them."""
    if not config.audit.folds:
        write_table(outputs.label_issues, pd.DataFrame(columns=COLUMNS))
        logger.info("no audit: audit.folds is 0")
        return
    tensorflow.require_tensorflow()
    import tensorflow as tf

    # People look through this list: the same data must give the same list.
    tf.config.experimental.enable_op_determinism()
    train, validation = load_subset(config, inputs, "train"), load_subset(config, inputs, "validation")
    unseen = dict.fromkeys(config.data.heads)
    of_validation: list[Mapping[str, Outputs]] = []
    folds = fold_of(train.groups, config.audit.folds, config.seed)
    collected: dict[str, list[Outputs]] = {name: [] for name in unseen}
    for number, held_out in enumerate(fold_masks(folds), start=1):
        logger.info("fold %d of %d", number, config.audit.folds)
        predictor = trained_without(config, inputs, train, held_out, validation, number)
        predicted = predictor(train.inputs, train.rows[held_out])
        for name, values in predicted.items():
            collected[name].append(values)
        of_validation.append(predictor(validation.inputs, validation.rows))
    order = np.concatenate([np.flatnonzero(held_out) for held_out in fold_masks(folds)])
    tables = [
        ranked(config, take(train, order), {name: np.concatenate(parts) for name, parts in collected.items()}, "train"),
        ranked(
            config,
            validation,
            {name: np.mean([each[name] for each in of_validation], axis=0) for name in unseen},
            "validation",
        ),
    ]
    issues = pd.concat(tables).sort_values(["disagreement", "path"], ascending=[False, True])
    issues = pd.concat([issues[issues["head"] == name].head(LISTED) for name in config.data.heads])
    issues["rank"] = issues.groupby("head").cumcount() + 1
    write_table(outputs.label_issues, issues[COLUMNS])
    for number in range(1, config.audit.folds + 1):
        checkpoint_of(inputs, fold_fingerprint(config, inputs, number)).unlink(missing_ok=True)
    logger.info("%d labels to look at: %s", len(issues), outputs.label_issues)
