"""TODO manyheads.training.out_of_fold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.config.schema import Config, TrainConfig
from manyheads.data.subsets import Subset
from manyheads.heads import Outputs
from manyheads.modeling import build, inference
from manyheads.modeling.build import build_network
from manyheads.paths import Paths, main_project
from manyheads.runtime.files import sha256_of
from manyheads.runtime.hardware import fastest_precision
from manyheads.tracking.dvc import code_of
from manyheads.training import checkpoint, loop, optimizers


def fold_of(groups: list[str], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each sample, shape (n,); samples of one duplicate group share theirs."""
    names, codes = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng([seed, folds]).permutation(len(names)) % folds
    return np.asarray(dealt[codes], dtype=np.int64)


def fold_masks(folds: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.bool_]]:
    for number in range(int(folds.max()) + 1):
        yield folds == number


def ranked(config: Config, subset: Subset, outputs: Mapping[str, Outputs], name: str) -> pd.DataFrame:
    """Return every sample of a subset with how much the outputs disagree with its label, one row a head and sample."""
    tables = []
    for head_name, head in config.data.heads.items():
        known = np.flatnonzero(head.present(subset.labels[head_name]))
        labels, values = subset.labels[head_name][known], outputs[head_name][known]
        tables.append(
            pd.DataFrame(
                {
                    "head": head_name,
                    "path": [subset.paths[row] for row in known],
                    "subset": name,
                    "label": head.names(labels),
                    "predicted": head.names(head.values(values)),
                    "disagreement": np.round(head.disagreement(labels, values), 4),
                }
            ).astype({"label": object, "predicted": object})
        )
    return pd.concat(tables)


def take(subset: Subset, chosen: npt.NDArray[Any]) -> Subset:
    rows = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
    return replace(
        subset,
        rows=subset.rows[rows],
        paths=[subset.paths[row] for row in rows],
        labels={name: labels[rows] for name, labels in subset.labels.items()},
        groups=[subset.groups[row] for row in rows],
    )


def trained_without(
    config: Config, inputs: Paths, train: Subset, held_out: npt.NDArray[np.bool_], validation: Subset, number: int
) -> inference.Predictor:
    """Return a model that was trained on the training subset without a fold; it goes on where it was stopped."""
    import keras

    heads = config.data.heads
    rest = take(train, ~held_out)
    settings = _settings(config)
    losses = {name: head.audit_loss for name, head in heads.items()}
    statistics = {name: head.statistics("standard", rest.labels[name]) for name, head in heads.items()}
    shaped = fold_fingerprint(config, inputs, number)
    state = checkpoint_of(inputs, shaped)
    keras.backend.clear_session()
    keras.utils.set_random_seed(config.seed)
    network = build_network(config.model, heads, losses, statistics, config.inputs, str(settings.precision))
    compiled = build.compile_heads(
        network,
        heads,
        losses,
        dict.fromkeys(heads, 1.0),
        statistics,
        optimizers.optimizer_for(settings, max(1, len(rest) // settings.batch_size)),
        ema_decay=settings.ema_decay,
    )
    with checkpoint.training_lock(state):
        progress = checkpoint.resume(state, compiled, shaped)
        loop.fit(compiled, heads, rest, validation, settings, config.seed, state, progress)
    return inference.Predictor(network, heads)


def checkpoint_of(inputs: Paths, shaped: Mapping[str, str]) -> Path:
    digest = hashlib.sha256(json.dumps(shaped, sort_keys=True).encode()).hexdigest()[:24]
    return Paths(main_project(inputs.root)).resume / f"audit-{digest}.npz"


def _settings(config: Config) -> TrainConfig:
    return TrainConfig(
        epochs=config.audit.epochs,
        batch_size=64,
        optimizer="adamw",
        learning_rate=0.002,
        schedule="cosine",
        warmup_epochs=1.0,
        weight_decay=0.03,
        ema_decay=0.99,
        augment=0.5 if _changeable(config) else 0.0,
        flip_tta=False,
        precision=fastest_precision(),
        deterministic=True,
    )


def _changeable(config: Config) -> bool:
    """Return whether inputs may be changed at random: some can be, and no label is a place in them."""
    augmented = any(kind.AUGMENTATION_DRAWS for kind in config.inputs.values())
    return augmented and not any(head.moves_with_the_image for head in config.data.heads.values())


def fold_fingerprint(config: Config, inputs: Paths, fold: int) -> dict[str, str]:
    """Return all that shapes the training without a fold, by name."""
    settings = config.model_dump(mode="json", include={"seed", "model", "audit", "inputs"})
    return {
        "settings": json.dumps(settings, sort_keys=True),
        "heads": json.dumps(config.model_dump(mode="json")["data"]["heads"], sort_keys=True),
        "fold": str(fold),
        "the packed samples": sha256_of(inputs.samples),
        "the split": sha256_of(inputs.splits),
        **code_of("audit", Path(inputs.root)),
    }
