"""Audit: which labels look wrong? Every training sample is judged by a model that has not seen it.

Reads the packed images and the split's train and validation parts, never the test part. Writes
``reports/label_issues.csv``: for each head, the samples whose label a model that was trained without them contradicts
most. Nothing is removed by it. Who has looked at the pictures and is sure puts paths into a list and names it as
``split.files.reviewed``.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads import fitting, model
from manyheads.config import Config, TrainConfig
from manyheads.files import sha256_of
from manyheads.heads import Outputs
from manyheads.inputs import ImageInput
from manyheads.layout import Layout, main_project
from manyheads.machine import fastest_precision
from manyheads.parts import Part, load_part
from manyheads.pipeline import code_of
from manyheads.tables import write_table

logger = logging.getLogger(__name__)

LISTED = 200
"""Samples that are listed for each head."""

COLUMNS = ["head", "rank", "path", "part", "label", "predicted", "disagreement"]


def run(config: Config, inputs: Layout, outputs: Layout) -> None:
    """Rank the labels of train and validation by how much a model disagrees that was trained without them."""
    if not config.audit.folds:
        write_table(outputs.label_issues, pd.DataFrame(columns=COLUMNS))
        logger.info("no audit: audit.folds is 0")
        return
    model.require_tensorflow()
    import tensorflow as tf

    # The list of labels is handed on, and looked at by people: the same data gives the same one.
    tf.config.experimental.enable_op_determinism()
    train, validation = load_part(config, inputs, "train"), load_part(config, inputs, "validation")
    unseen = dict.fromkeys(config.data.heads)
    of_validation: list[Mapping[str, Outputs]] = []
    folds = fold_of(train.groups, config.audit.folds, config.seed)
    collected: dict[str, list[Outputs]] = {name: [] for name in unseen}
    for number, held_out in enumerate(_folds(folds), start=1):
        logger.info("fold %d of %d", number, config.audit.folds)
        predictor = _trained_without(config, inputs, train, held_out, validation, number)
        predicted = predictor(train.inputs, train.rows[held_out])
        for name, values in predicted.items():
            collected[name].append(values)
        of_validation.append(predictor(validation.inputs, validation.rows))
    order = np.concatenate([np.flatnonzero(held_out) for held_out in _folds(folds)])
    tables = [
        ranked(
            config, _subset(train, order), {name: np.concatenate(parts) for name, parts in collected.items()}, "train"
        ),
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
        _state(inputs, shaped_by(config, inputs, number)).unlink(missing_ok=True)
    logger.info("%d labels to look at: %s", len(issues), outputs.label_issues)


def fold_of(groups: list[str], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each sample, shape (n,); samples of one duplicate group share theirs."""
    names, codes = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng([seed, folds]).permutation(len(names)) % folds
    return np.asarray(dealt[codes], dtype=np.int64)


def _folds(folds: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.bool_]]:
    for number in range(int(folds.max()) + 1):
        yield folds == number


def ranked(config: Config, part: Part, outputs: Mapping[str, Outputs], name: str) -> pd.DataFrame:
    """Return every sample of a part with how much the outputs disagree with its label, one row a head and sample."""
    tables = []
    for head_name, head in config.data.heads.items():
        known = np.flatnonzero(head.present(part.labels[head_name]))
        labels, values = part.labels[head_name][known], outputs[head_name][known]
        tables.append(
            pd.DataFrame(
                {
                    "head": head_name,
                    "path": [part.paths[row] for row in known],
                    "part": name,
                    "label": head.names(labels),
                    "predicted": head.names(head.values(values)),
                    "disagreement": np.round(head.disagreement(labels, values), 4),
                }
            ).astype({"label": object, "predicted": object})
        )
    return pd.concat(tables)


def _subset(part: Part, chosen: npt.NDArray[Any]) -> Part:
    rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
    return replace(
        part,
        rows=part.rows[rows],
        paths=[part.paths[row] for row in rows],
        labels={name: labels[rows] for name, labels in part.labels.items()},
        groups=[part.groups[row] for row in rows],
    )


def _trained_without(
    config: Config, inputs: Layout, train: Part, held_out: npt.NDArray[np.bool_], validation: Part, number: int
) -> model.Predictor:
    """Return a model that was trained on the training part without a fold; it goes on where it was stopped."""
    import keras

    heads = config.data.heads
    rest = _subset(train, ~held_out)
    settings = _settings(config)
    losses = {name: head.audit_loss for name, head in heads.items()}
    statistics = {name: head.statistics("standard", rest.labels[name]) for name, head in heads.items()}
    shaped = shaped_by(config, inputs, number)
    state = _state(inputs, shaped)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    network = model.build(config.model, heads, losses, statistics, config.pack, str(settings.precision))
    compiled = model.compile_heads(
        network,
        heads,
        losses,
        dict.fromkeys(heads, 1.0),
        statistics,
        fitting.optimizer_for(settings, max(1, len(rest) // settings.batch_size)),
        averaging=settings.averaging,
    )
    with fitting.alone(state):
        progress = fitting.resume(state, compiled, shaped)
        fitting.fit(compiled, heads, rest, validation, settings, config.seed, state, progress)
    return model.Predictor(network, heads)


def _state(inputs: Layout, shaped: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()[:24]
    return Layout(main_project(inputs.root)).resume / f"audit-{digest}.npz"


def _settings(config: Config) -> TrainConfig:
    return TrainConfig(
        epochs=config.audit.epochs,
        batch_size=64,
        optimizer="adamw",
        learning_rate=0.002,
        schedule="cosine",
        warmup_epochs=1.0,
        weight_decay=0.03,
        averaging=0.99,
        generations=1,
        augment=0.5 if _changeable(config) else 0.0,
        mirrored=False,
        precision=fastest_precision(),
        deterministic=True,
    )


def _changeable(config: Config) -> bool:
    """Return whether images may be changed at random: there are some, and no label is a place in them."""
    pictured = any(isinstance(kind, ImageInput) for kind in config.pack.values())
    return pictured and not any(head.moves_with_the_image for head in config.data.heads.values())


def shaped_by(config: Config, inputs: Layout, fold: int) -> dict[str, str]:
    """Return all that shapes the training without a fold, by name."""
    settings = config.model_dump(mode="json", include={"seed", "model", "audit", "pack"})
    return {
        "settings": json.dumps(settings, sort_keys=True),
        "heads": json.dumps(config.model_dump(mode="json")["data"]["heads"], sort_keys=True),
        "fold": str(fold),
        "the packed samples": sha256_of(inputs.samples),
        "the split": sha256_of(inputs.splits),
        **code_of("audit", Path(inputs.root)),
    }
