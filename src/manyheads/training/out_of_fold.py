"""Out-of-fold predictions: a model that was trained without a sample predicts it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from manyheads.config.schema import Config, TrainConfig
from manyheads.data.subsets import Subset
from manyheads.heads import Outputs
from manyheads.modeling.inference import Predictor
from manyheads.modeling.objective import objective_of
from manyheads.paths import Paths
from manyheads.runtime import tensorflow
from manyheads.runtime.files import json_digest, sha256_of
from manyheads.runtime.hardware import fastest_precision
from manyheads.tracking.dvc import code_digests
from manyheads.training.checkpoint import resume, training_lock
from manyheads.training.compilation import compiled_model
from manyheads.training.features import computed_once
from manyheads.training.fingerprint import checkpoint_folder, precision_of
from manyheads.training.loop import fit

logger = logging.getLogger(__name__)

ON_FROZEN_FEATURES = {"batch_size": 128, "learning_rate": 0.001, "weight_decay": 0.05, "augment": 0.0}
"""What differs where heads learn on the features of a frozen network; these are the values of experiment=probe."""


def fold_of(groups: list[str], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """Return the fold of each sample, shape (n,); all samples of a duplicate group are in one fold."""
    names, codes = np.unique(groups, return_inverse=True)
    assigned = np.random.default_rng([seed, folds]).permutation(len(names)) % folds
    return np.asarray(assigned[codes], dtype=np.int64)


def train_without(
    config: Config, project: Paths, train: Subset, held_out: npt.NDArray[np.bool_], validation: Subset, fold: int
) -> Predictor:
    """Train a model on the training subset without a fold, or continue a training that was stopped.

    Args:
        config: All settings; each head decides by ``audit_loss`` what follows from its loss.
        project: Paths of the samples and the checkpoint.
        train: The training subset.
        held_out: Whether each of its samples is in the fold, shape (n,), bool.
        validation: The validation subset, whose score selects the best epoch.
        fold: Number of the fold, for the checkpoint.
    """
    tensorflow.start_training_session(deterministic=True)
    heads, settings = config.data.heads, _settings(config)
    rest = train.take(np.flatnonzero(~held_out))
    functions = {name: head.audit_loss(config.loss.functions[name]) for name, head in heads.items()}
    objective = objective_of(heads, functions, dict.fromkeys(heads, 1.0), "standard", rest.labels)
    _, model = compiled_model(config.model.frozen(), config.inputs, objective, settings, config.seed, rest)
    path, fingerprint = fold_checkpoint(config, project, fold), fold_fingerprint(config, project, fold)
    with training_lock(path):
        fit(model, rest, validation, settings, config.seed, path, resume(path, model, fingerprint))
    return Predictor(model, heads)


def predict_out_of_fold(
    config: Config, project: Paths, train: Subset, validation: Subset
) -> tuple[dict[str, Outputs], dict[str, Outputs]]:
    """Return each head's outputs for training and validation samples, from models that did not learn from them.

    Args:
        config: All settings.
        project: Paths of the samples and the checkpoints, which stay: see ``fold_checkpoint``.
        train: The training subset.
        validation: The validation subset.

    Returns:
        The outputs for the training subset, in its order, shape (n, units): those of the model that was trained without
        the sample's fold. Then the outputs for the validation subset: the mean over the models of all folds.

    Raises:
        ManyheadsError: The weights of a pretrained network cannot be had, or a loss is not finite.
    """
    train, validation = subsets_for_folds(config, train, validation)
    fold = fold_of(train.groups, config.audit.folds, config.seed)
    of_train: dict[str, Outputs] = {}
    of_validation: list[Mapping[str, Outputs]] = []
    for number in range(config.audit.folds):
        held_out = fold == number
        logger.info(
            "fold %d of %d: training on %d samples, then predicting the other %d",
            number + 1, config.audit.folds, (~held_out).sum(), held_out.sum(),
        )  # fmt: skip
        predictor = train_without(config, project, train, held_out, validation, number)
        for name, outputs in predictor(train.inputs, train.rows[held_out]).items():
            of_train.setdefault(name, np.zeros((len(train), *outputs.shape[1:]), outputs.dtype))[held_out] = outputs
        of_validation.append(predictor(validation.inputs, validation.rows))
    return of_train, {name: np.mean([each[name] for each in of_validation], axis=0) for name in of_train}


def subsets_for_folds(config: Config, train: Subset, validation: Subset) -> tuple[Subset, Subset]:
    """Return the subsets as the models of all folds take them; the features of a pretrained network are computed once.

    A pretrained network stays frozen in all folds. It has not seen any of the labels.
    """
    precision = precision_of(_settings(config))
    return computed_once(config.model.frozen(), config.inputs, precision, train, validation)


def _settings(config: Config) -> TrainConfig:
    """Return settings that suit the audit, whatever ``train`` says, so that another training needs no other audit."""
    settings = TrainConfig(
        epochs=config.audit.epochs,
        batch_size=64,
        optimizer="adamw",
        learning_rate=0.002,
        schedule="cosine",
        warmup_epochs=1.0,
        weight_decay=0.03,
        augment=0.5 if _can_augment(config) else 0.0,
        mixup=0.0,
        cutmix=0.0,
        flip_tta=False,
        heads_first=0,
        precision=fastest_precision(),
        deterministic=True,
    )
    return settings.model_copy(update=ON_FROZEN_FEATURES) if config.model.frozen().has_frozen_trunk else settings


def _can_augment(config: Config) -> bool:
    """Return whether some input can be augmented and no label is a position in an input."""
    augmented = any(kind.AUGMENTATION_DRAWS for kind in config.inputs.values())
    return augmented and not any(head.is_spatial for head in config.data.heads.values())


def fold_checkpoint(config: Config, project: Paths, fold: int) -> Path:
    """Return the path of the checkpoint of the training without a fold."""
    return checkpoint_folder(project) / f"audit-{json_digest(fold_fingerprint(config, project, fold), 24)}.npz"


def fold_fingerprint(config: Config, project: Paths, fold: int) -> dict[str, str]:
    """Return the fingerprint of the training without a fold, by name."""
    settings = config.model_dump(
        mode="json", include={"seed": True, "model": True, "audit": True, "inputs": True, "loss": {"functions"}}
    )
    return {
        "settings": json.dumps(settings, sort_keys=True),
        "heads": json.dumps(config.model_dump(mode="json")["data"]["heads"], sort_keys=True),
        "fold": str(fold),
        "the packed samples": sha256_of(project.samples),
        "the split": sha256_of(project.splits),
        **code_digests("audit", project.root),
    }
