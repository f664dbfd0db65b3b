"""One training: from a configuration to a model, its history and its MLflow run.

The stage ``train`` does one, a sweep and a search do many. The same configuration on the same data with the same code
goes on where it was stopped.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads import fitting, tracking
from manyheads import model as models
from manyheads.config import Config, TrainConfig
from manyheads.files import sha256_of, write_aside
from manyheads.heads import Head, LabelStatistics, Metric
from manyheads.layout import Layout, main_project
from manyheads.machine import Precision, describe, fastest_precision
from manyheads.parts import Part, label_table, load_part
from manyheads.pipeline import code_of
from manyheads.tables import write_table

if TYPE_CHECKING:
    import keras

    from manyheads.objective import MultiHead

logger = logging.getLogger(__name__)


class Trained(NamedTuple):
    """What a finished training leaves, beside its files.

    Attributes:
        run_id: Its MLflow run, or an empty text if there is no record.
        figures: ``best/…`` and ``last/…`` validation figures, ``best/epoch`` and ``wall_seconds``.
    """

    run_id: str
    figures: dict[str, float]


def train(
    config: Config,
    inputs: Layout,
    outputs: Layout,
    place: tracking.Place = tracking.Place(),  # noqa: B008 - immutable
    on_epoch: Callable[[int, fitting.Row], None] = lambda epoch, row: None,  # noqa: ARG005
    on_start: Callable[[str], None] = lambda run_id: None,  # noqa: ARG005
) -> Trained:
    """Train the configured model, or go on with a training that was stopped.

    Args:
        config: The whole configuration.
        inputs: Where the packed samples and the split lie.
        outputs: Where the model and its history go.
        place: Name, tags and parent of the MLflow run.
        on_epoch: Called after each epoch with its number and figures; what it raises ends the training.
        on_start: Called with the id of the MLflow run once it is open.
    """
    models.require_tensorflow()
    part, validation = load_part(config, inputs, "train"), load_part(config, inputs, "validation")
    state = _resume(inputs) / f"{identity(config, inputs)}.npz"
    with fitting.alone(state):
        place = _described(place, config, inputs)._replace(run_id=fitting.recorded_run(state) or place.run_id)
        with tracking.run(config.tracking, inputs.root, place) as record:
            on_start(record.run_id)
            figures = _train(config, inputs, outputs, part, validation, state, record, on_epoch)
            run_id = record.run_id
        state.unlink(missing_ok=True)
    return Trained(run_id, figures)


def _described(place: tracking.Place, config: Config, inputs: Layout) -> tracking.Place:
    tags = {
        **tracking.provenance(inputs.root),
        "loss": config.loss.name,
        "encoder": config.model.encoder,
        "data": config.data.name,
        "split": split_digest(inputs),
        "main_metrics": json.dumps({name: each.model_dump() for name, each in main_metrics(config).items()}),
    }
    name = place.name or f"{config.data.name}-{config.model.encoder}-{config.loss.name}"
    return place._replace(name=name, tags=tags | dict(place.tags))


def main_metrics(config: Config) -> dict[str, Metric]:
    """Return each head's main metric: what a comparison of runs shows of it, and how."""
    return {name: head.metric(head.main_metric) for name, head in config.data.heads.items()}


def split_digest(inputs: Layout) -> str:
    """Return a digest of the split: figures of runs compare where it is the same."""
    return sha256_of(inputs.splits)[:16]


def record_again(config: Config, inputs: Layout, outputs: Layout, place: tracking.Place, trained: Trained) -> str:
    """Give MLflow a finished training that it did not take at the time, from its files.

    Returns:
        The id of the run, or an empty text if the store cannot be reached now either.
    """
    history = pd.read_csv(outputs.history).drop(columns="epoch")
    rows = [dict(zip(history.columns.astype(str), values, strict=True)) for values in history.to_numpy().tolist()]
    with tracking.run(config.tracking, inputs.root, _described(place, config, inputs)) as record:
        record.params(config.model_dump())
        record.missing_epochs(rows)
        _record_results(record, inputs, outputs, trained.figures)
        record.files(outputs.model, "models")
    return record.run_id


def _record_results(record: tracking.Run, inputs: Layout, outputs: Layout, figures: Mapping[str, float]) -> None:
    record.metrics(figures)
    record.tags({"model": tracking.model_tag(outputs.model)})
    record.files(outputs.history)
    record.files(inputs.split_counts)


def _train(
    config: Config,
    inputs: Layout,
    outputs: Layout,
    train: Part,
    validation: Part,
    state: Path,
    record: tracking.Run,
    on_epoch: Callable[[int, fitting.Row], None],
) -> dict[str, float]:
    import keras
    import tensorflow as tf

    keras.backend.clear_session()  # of an earlier training in this process
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    heads, settings = config.data.heads, config.train
    network = compiled(config, train)
    progress = fitting.resume(state, network, shaped_by(config, inputs))
    if state.exists():
        logger.info("going on after epoch %d of generation %d (%s)", len(progress.history), progress.generation, state)
    logger.info(
        "training %s parameters on %d samples, judged on %d, in %d epochs, %s",
        f"{network.count_params():,}", len(train), len(validation), settings.epochs, precision_of(settings),
    )  # fmt: skip
    start = time.monotonic()
    progress.run_id = record.run_id
    settled = {"parameters": network.count_params(), "precision": precision_of(settings)}
    record.params(config.model_dump() | settled)
    record.dataset(label_table(train), f"{config.data.name}-train", config.data.path, "training")
    record.missing_epochs(progress.history)

    def after_epoch(epoch: int, row: fitting.Row) -> None:
        record.metrics(row, step=epoch)
        on_epoch(epoch, row)

    while progress.generation < settings.generations:
        logger.info("generation %d of %d teaches the next", progress.generation, settings.generations)
        seed = _seed(config, progress.generation)
        fitting.fit(network, heads, train, validation, settings, seed, state, progress)
        labels = {name: head.targets(train.labels[name]) for name, head in heads.items()}
        progress = fitting.next_generation(progress, labels, _taught(config, train, network))
        network = compiled(config, train, progress.generation)
        fitting.save_state(state, network, progress)
    seed = _seed(config, progress.generation)
    fitting.fit(network, heads, train, validation, settings, seed, state, progress, after_epoch)
    figures = summary(progress)
    folded = _for_inference(config, train, network)
    _write(outputs, config, folded, progress)
    record.tags({"machine": describe()})
    _record_results(record, inputs, outputs, figures)
    record.model(folded, heads)
    logger.info(
        "best epoch %d of %d, validation score %.3f; %.0f s",
        progress.best_epoch, settings.epochs, figures["best/val/score"], time.monotonic() - start,
    )  # fmt: skip
    return figures


def summary(progress: fitting.Progress) -> dict[str, float]:
    """Return the validation figures of the best epoch and the last, to compare runs by."""
    figures: dict[str, float] = {}
    rows = {"best": progress.history[progress.best_epoch - 1], "last": progress.history[-1]}
    for which, row in rows.items():
        figures |= {f"{which}/{name}": value for name, value in row.items() if name.startswith("val/")}
    figures["best/epoch"] = progress.best_epoch
    figures["wall_seconds"] = sum(row["train/seconds"] for row in progress.history)
    return figures | progress.earlier


def compiled(config: Config, train: Part, generation: int = 1) -> MultiHead:
    """Return the configured model with the initial weights of a generation, ready to be fitted to the training part."""
    import keras

    keras.utils.set_random_seed(_seed(config, generation))
    heads, loss, settings = config.data.heads, config.loss, config.train
    statistics = _label_statistics(config, train)
    network = models.build(config.model, heads, loss.functions, statistics, config.pack, precision_of(settings))
    optimizer = fitting.optimizer_for(settings, max(1, len(train) // settings.batch_size))
    return models.compile_heads(
        network,
        heads,
        loss.functions,
        loss.weights,
        statistics,
        optimizer,
        loss.weighting,
        averaging=settings.averaging,
        incomplete=incomplete(heads, train),
        form=loss.form,
    )


def incomplete(heads: Mapping[str, Head], part: Part) -> list[str]:
    """Return the heads that miss labels in a part."""
    return [name for name, head in heads.items() if not head.present(part.labels[name]).all()]


def _seed(config: Config, generation: int) -> int:
    return config.seed + generation - 1


def _for_inference(config: Config, train: Part, trained: keras.Model) -> keras.Model:
    folded = models.build(
        config.model,
        config.data.heads,
        config.loss.functions,
        _label_statistics(config, train),
        config.pack,
        folded=True,
    )
    models.fold(trained, folded)
    return models.averaged_over_flip(folded) if config.train.mirrored else folded


def _taught(config: Config, train: Part, trained: keras.Model) -> dict[str, npt.NDArray[np.float32]]:
    """Return what a finished generation makes of the training part, as targets of the next."""
    heads, statistics = config.data.heads, _label_statistics(config, train)
    teacher = models.Predictor(_for_inference(config, train, trained), heads)
    outputs = teacher(train.inputs, train.rows)
    return {
        name: head.taught(outputs[name], config.loss.functions[name], statistics[name]) for name, head in heads.items()
    }


def _label_statistics(config: Config, train: Part) -> dict[str, LabelStatistics]:
    return {name: head.statistics(config.loss.scale, train.labels[name]) for name, head in config.data.heads.items()}


def _write(outputs: Layout, config: Config, model: keras.Model, progress: fitting.Progress) -> None:
    history = pd.DataFrame(progress.history)
    history.insert(0, "epoch", range(1, len(history) + 1))
    # Seconds differ from run to run; DVC would take the file for changed. They are in MLflow.
    write_table(outputs.history, history.drop(columns="train/seconds"))
    card = models.ModelCard(
        data=config.data.name,
        inputs=config.pack,
        heads=config.data.heads,
        precision=precision_of(config.train),
    )
    with write_aside(outputs.model) as folder:
        folder.mkdir()
        models.save(folder, model, card)


def shaped_by(config: Config, inputs: Layout) -> dict[str, str]:
    """Return all that shapes a training, by name: settings, data, split, code and library versions.

    The samples table holds the hash of every sample's bytes, so the array itself need not be read. The code is what
    ``dvc.yaml`` lists for the stage.
    """
    settings = config.model_dump(mode="json", include={"seed", "model", "loss", "train", "pack"})
    settings["train"]["precision"] = precision_of(config.train)
    settings["data"] = {"heads": config.model_dump(mode="json")["data"]["heads"]}
    return {
        **{name: str(value) for name, value in tracking.flattened(settings).items()},
        "the packed samples": sha256_of(inputs.samples),
        "the split": sha256_of(inputs.splits),
        **code_of("train", inputs.root),
        **_versions(),
    }


def identity(config: Config, inputs: Layout) -> str:
    """Return a digest of all that shapes a training."""
    return hashlib.sha256(json.dumps(shaped_by(config, inputs), sort_keys=True).encode()).hexdigest()[:24]


def mention_another(config: Config, inputs: Layout) -> None:
    """Say in the log what the latest unfinished training differs in, if it is another one than the configured."""
    states = sorted(_resume(inputs).glob("*.npz"), key=lambda path: path.stat().st_mtime)
    if not states or states[-1].stem == identity(config, inputs):
        return
    if differing := fitting.differences(states[-1], shaped_by(config, inputs)):
        logger.info("%s is of another training and is not used: %s", states[-1], differing)


def _resume(inputs: Layout) -> Path:
    return Layout(main_project(inputs.root)).resume


def precision_of(config: TrainConfig) -> Precision:
    """Return the dtype policy that a training has on this machine."""
    if config.precision != "auto":
        return config.precision
    models.require_tensorflow()
    return fastest_precision()


@functools.cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("keras", "numpy", "opencv-python-headless")}
