"""The fingerprint of a training: everything that determines its result, by name."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from manyheads.config.schema import Config, TrainConfig
from manyheads.errors import IntegrityError
from manyheads.paths import Paths, main_project
from manyheads.runtime import tensorflow
from manyheads.runtime.files import json_digest, sha256_of
from manyheads.runtime.hardware import Precision, fastest_precision
from manyheads.tracking import runs
from manyheads.tracking.dvc import code_digests
from manyheads.training import checkpoint

logger = logging.getLogger(__name__)


def split_digest(project: Paths) -> str:
    """Return a digest of the split; metrics of runs are comparable only if it is equal."""
    return sha256_of(project.splits)[:16]


def fingerprint(config: Config, project: Paths) -> dict[str, str]:
    """Return the fingerprint of a training by name: settings, data, split, code and library versions.

    The samples table has the hash of each sample's bytes, so the arrays are not read. The code consists of the files
    that ``dvc.yaml`` lists for the stage.

    Raises:
        IntegrityError: The packed samples or the split are missing.
    """
    settings = config.model_dump(mode="json", include={"seed", "model", "loss", "train", "inputs"})
    settings["train"]["precision"] = precision_of(config.train)
    settings["data"] = {"heads": config.model_dump(mode="json")["data"]["heads"]}
    return {
        **{name: str(value) for name, value in runs.flattened(settings).items()},
        "the packed samples": _digest_of(project.samples),
        "the split": _digest_of(project.splits),
        **code_digests("train", project.root),
        **_versions(),
    }


def _digest_of(path: Path) -> str:
    try:
        return sha256_of(path)
    except FileNotFoundError:
        raise IntegrityError(f"{path} is missing: run `dvc repro split`") from None


def digest(config: Config, project: Paths) -> str:
    """Return the digest of a training's fingerprint."""
    return json_digest(fingerprint(config, project), 24)


def checkpoint_of(config: Config, project: Paths) -> Path:
    """Return the path of the checkpoint of a training."""
    return checkpoint_folder(project) / f"{digest(config, project)}.npz"


def log_unfinished_training(config: Config, project: Paths) -> None:
    """Log how an unfinished training of the same model on the same data differs from the configured one, if it does.

    Otherwise a person who stops a training and changes a setting would wonder why it starts at the first epoch.
    """
    ours = fingerprint(config, project)
    for path in _latest_first(checkpoint_folder(project)):
        try:
            theirs = checkpoint.recorded_fingerprint(path)
        except IntegrityError:  # of another process that has just finished, or damaged: this training does not need it
            continue
        if _of_data_and_model(theirs) == _of_data_and_model(ours):
            if differing := checkpoint.differences(theirs, ours):
                logger.info("%s is of another training and is not used: %s", path, differing)
            return


def _latest_first(folder: Path) -> list[Path]:
    times = {}
    for path in folder.glob("*.npz"):
        with contextlib.suppress(FileNotFoundError):  # another process has just finished
            times[path] = path.stat().st_mtime
    return sorted(times, key=times.__getitem__, reverse=True)


def _of_data_and_model(fingerprint: Mapping[str, str]) -> dict[str, str]:
    own = {"the packed samples", "the split"}
    return {
        name: value
        for name, value in fingerprint.items()
        if name in own or name.startswith(("data.", "inputs.", "model."))
    }


def checkpoint_folder(project: Paths) -> Path:
    """Return the folder of checkpoints, which a project shares with its temporary copies."""
    return Paths(main_project(project.root)).resume


def precision_of(config: TrainConfig) -> Precision:
    """Return the Keras dtype policy of a training on this machine."""
    if config.precision != "auto":
        return config.precision
    tensorflow.require_tensorflow()
    return fastest_precision()


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("keras", "numpy", "opencv-python-headless")}
