"""The fingerprint of a training: all that shapes it, by name."""

from __future__ import annotations

import functools
import logging
from importlib.metadata import version
from pathlib import Path

from manyheads.config.schema import Config, TrainConfig
from manyheads.paths import Paths, main_project
from manyheads.runtime import tensorflow
from manyheads.runtime.files import json_digest, sha256_of
from manyheads.runtime.hardware import Precision, fastest_precision
from manyheads.tracking import runs
from manyheads.tracking.dvc import code_digests
from manyheads.training import checkpoint

logger = logging.getLogger(__name__)


def split_digest(inputs: Paths) -> str:
    """Return a digest of the split: metrics of runs compare where it is the same."""
    return sha256_of(inputs.splits)[:16]


def fingerprint(config: Config, inputs: Paths) -> dict[str, str]:
    """Return all that shapes a training, by name: settings, data, split, code and library versions.

    The samples table holds the hash of every sample's bytes, so the array itself need not be read. The code is what
    ``dvc.yaml`` lists for the stage.
    """
    settings = config.model_dump(mode="json", include={"seed", "model", "loss", "train", "inputs"})
    settings["train"]["precision"] = precision_of(config.train)
    settings["data"] = {"heads": config.model_dump(mode="json")["data"]["heads"]}
    return {
        **{name: str(value) for name, value in runs.flattened(settings).items()},
        "the packed samples": sha256_of(inputs.samples),
        "the split": sha256_of(inputs.splits),
        **code_digests("train", inputs.root),
        **_versions(),
    }


def digest(config: Config, inputs: Paths) -> str:
    """Return the digest of a training's fingerprint."""
    return json_digest(fingerprint(config, inputs), 24)


def checkpoint_of(config: Config, inputs: Paths) -> Path:
    """Return the file that holds the state of a training between epochs."""
    return checkpoint_folder(inputs) / f"{digest(config, inputs)}.npz"


def log_unfinished_training(config: Config, inputs: Paths) -> None:
    """Say in the log what the latest unfinished training differs in, if it is another one than the configured."""
    states = sorted(checkpoint_folder(inputs).glob("*.npz"), key=lambda path: path.stat().st_mtime)
    if not states or states[-1].stem == digest(config, inputs):
        return
    if differing := checkpoint.differences(states[-1], fingerprint(config, inputs)):
        logger.info("%s is of another training and is not used: %s", states[-1], differing)


def checkpoint_folder(inputs: Paths) -> Path:
    """Return the folder of checkpoints, which the temporary copies of a project share with it."""
    return Paths(main_project(inputs.root)).resume


def precision_of(config: TrainConfig) -> Precision:
    """Return the dtype policy that a training has on this machine."""
    if config.precision != "auto":
        return config.precision
    tensorflow.require_tensorflow()
    return fastest_precision()


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("keras", "numpy", "opencv-python-headless")}
