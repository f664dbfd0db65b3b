"""Predict: run a saved model on new samples, without DVC and MLflow."""

from __future__ import annotations

import itertools
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from manyheads.commands import parsers, saved_model
from manyheads.commands.given import Given, Looked, look
from manyheads.errors import ConfigError, DataError
from manyheads.modeling import inference, saving
from manyheads.prediction import parts, writing
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.samples import bytes_of_sample, decoded, require_known_crops
from manyheads.prediction.tables import Row, table_of
from manyheads.preprocessing.decoding import Sample
from manyheads.runtime.files import atomic_write
from manyheads.runtime.progress import track
from manyheads.runtime.signals import raise_if_interrupted

if TYPE_CHECKING:
    import pyarrow as pa

logger = logging.getLogger(__name__)

TABLE_BYTES = 16 * 2**20
"""Number of bytes of decoded samples from which no further batch is added to a table."""

MOST_BATCHES = 16
"""Largest number of batches of a table; making a table takes nearly the same time for one sample and for a thousand."""

Load = Callable[[], saving.SavedModel]


class Predictions(NamedTuple):
    """Predictions in the course of being made.

    Attributes:
        schema: The columns and their types; None if the model was not needed, because no sample can be read.
        parts: For each part of the samples its tables in order, see ``table_of``; to be taken one after the other.
    """

    schema: pa.Schema | None
    parts: Iterator[Iterator[pd.DataFrame]]


def main(arguments: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    options = parsers.predict().parse_args(arguments)
    output, in_parts = _checked_output(options.output)
    place = saved_model.find(options.model)
    card = place.card()
    if options.find_faces:
        require_known_crops(card)
    looked = look(options.paths, card.inputs, card.columns)
    # TensorFlow takes seconds to load; by then it is known that there is something to predict.
    if output and in_parts:
        counts = _write_parts(output, card, place.load, looked, options.find_faces)
    else:
        counts = _write_file(output, card, place.load, looked, options.find_faces)
    if not counts.predicted:
        given_paths = ", ".join(map(str, options.paths))
        reason = counts.last_error if counts.rows == 1 else "see the column 'error'"
        raise DataError(f"no sample could be read in {given_paths}: {reason}")
    codes = ", ".join(f"{count} {code}" for code, count in counts.unreadable.most_common())
    logger.info(
        "predicted %d samples, %d could not be read%s: %s",
        counts.predicted, counts.unreadable.total(), f" ({codes})" if codes else "", output or "standard output",
    )  # fmt: skip
    _log_notes(card, counts.noted, options.find_faces)


def _checked_output(output: str | None) -> tuple[Path | None, bool]:
    """Return where to write, and whether it is a folder of parts."""
    if output is None:
        return None, False
    path = Path(output)
    if output.endswith(("/", os.sep)) or path.is_dir():
        return path, True
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(
            f"--output {output}: end the name in .csv or .parquet, or in / for a folder of Parquet files in parts"
        )
    return path, False


def _write_file(
    output: Path | None, card: saving.ModelCard, load: Load, looked: Looked, find_faces: bool
) -> writing.Counts:
    counts = writing.Counts()
    is_parquet = output is not None and output.suffix.lower() == ".parquet"
    with predicting(card, load, looked.samples(), find_faces, must_load=is_parquet) as predictions:
        tables = counts.counted(itertools.chain.from_iterable(predictions.parts))
        if output is None:
            writing.write_csv(sys.stdout, tables)
        elif is_parquet:
            writing.write_parquet(output, tables, predictions.schema)
        else:
            with atomic_write(output) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
                writing.write_csv(file, tables)
    return counts


def _write_parts(folder: Path, card: saving.ModelCard, load: Load, looked: Looked, find_faces: bool) -> writing.Counts:
    belongs_to = {
        "model": card.digest,
        "paths": [str(path) for path in looked.paths],
        "samples": looked.digest,
        "find_faces": find_faces,
    }
    with parts.opened(folder, belongs_to) as there:
        if there.is_complete:
            logger.info("%s is complete; delete it to predict again", folder)
            return there.counts
        if there.done:
            logger.info("%s has %d parts: continuing after %d samples", folder, there.done, there.samples)
        with predicting(card, load, looked.samples(there.samples), find_faces, must_load=True) as predictions:
            for number, tables in enumerate(predictions.parts, there.done):
                writing.write_parquet(there.part(number), there.counts.counted(tables), predictions.schema)
        there.finish()
        return there.counts


def _log_notes(card: saving.ModelCard, noted: int, find_faces: bool) -> None:
    from manyheads.prediction.face_crops import CALIBRATIONS

    if card.reference is None:
        logger.info("this model does not say what it was trained on, so there are no notes: train it again to get them")
    elif noted:
        hint = "; --find-faces finds and crops faces" if card.data in CALIBRATIONS and not find_faces else ""
        logger.info("%d samples are unlike the training data: see the column 'note'%s", noted, hint)


@contextmanager
def predicting(
    card: saving.ModelCard, load: Load, samples: Given, find_faces: bool = False, must_load: bool = False
) -> Iterator[Predictions]:
    """Predict every head for each sample, in bounded memory.

    Args:
        card: The description of the model.
        load: Returns the model; it is called when the first sample is decoded.
        samples: The samples.
        find_faces: Whether to predict each face of a picture; see ``require_known_crops``.
        must_load: Whether to load the model even if there are only a few samples and none of them can be read.
    """
    with closing(decoded(card, samples.members, find_faces)) as outcomes:
        # TensorFlow takes seconds to load. Samples are decoded meanwhile, and if none can be read it is not loaded.
        start: list[tuple[Row, ...]] = []
        for rows in outcomes:
            start.append(rows)
            if isinstance(rows[0].outcome, Sample) or len(start) == inference.PREDICTION_BATCH:
                must_load = True
                break
        model = AnsweringModel(load()) if start and must_load else None
        schema = writing.schema_of(model, find_faces) if model else None
        by_part = parts.by_samples(track(itertools.chain(start, outcomes), "predicting", samples.total))
        yield Predictions(schema, (_tables(card, model, rows) for rows in by_part))


def _tables(
    card: saving.ModelCard, model: AnsweringModel | None, outcomes: Iterable[tuple[Row, ...]]
) -> Iterator[pd.DataFrame]:
    rows = itertools.chain.from_iterable(outcomes)
    batch = inference.PREDICTION_BATCH
    size = batch * min(MOST_BATCHES, max(1, TABLE_BYTES // (batch * bytes_of_sample(card))))
    while table := list(itertools.islice(rows, size)):
        raise_if_interrupted()
        yield table_of(model, table)
