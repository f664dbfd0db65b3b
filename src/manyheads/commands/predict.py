"""Predict: run a saved model on new samples, without DVC and MLflow."""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any

import pandas as pd

from manyheads.commands import parsers, saved_model
from manyheads.commands.given import Given, given
from manyheads.data.tables import write_table
from manyheads.errors import DataError
from manyheads.modeling import inference, saving
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.samples import decoded, require_known_crops
from manyheads.prediction.tables import Row, table_of
from manyheads.preprocessing.decoding import Sample
from manyheads.runtime.progress import track

logger = logging.getLogger(__name__)


def main(arguments: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    options = parsers.predict().parse_args(arguments)
    place = saved_model.find(options.model)
    card = place.card()
    if options.find_faces:
        require_known_crops(card)
    samples = given(options.paths, card.inputs, card.columns)
    # TensorFlow takes seconds to load; by then it is known that there is something to predict.
    table = pd.concat(predicted(card, place.load, samples, options.find_faces), ignore_index=True)
    if options.output is None:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        write_table(options.output, table)
    unread = int((table["error"] != "").sum())
    if unread == len(table):
        given_paths = ", ".join(map(str, options.paths))
        reason = table["error"].iloc[0] if len(table) == 1 else "see the column 'error'"
        raise DataError(f"no sample could be read in {given_paths}: {reason}")
    where = options.output or "standard output"
    logger.info("predicted %d samples, %d could not be read: %s", len(table) - unread, unread, where)
    _log_notes(card, table, options.find_faces)


def _log_notes(card: saving.ModelCard, table: pd.DataFrame, find_faces: bool) -> None:
    from manyheads.prediction.face_crops import CALIBRATIONS

    if card.reference is None:
        logger.info("this model does not say what it was trained on, so there are no notes: train it again to get them")
    elif marked := int((table["note"] != "").sum()):
        hint = "; --find-faces finds and crops faces" if card.data in CALIBRATIONS and not find_faces else ""
        logger.info("%d samples are unlike the training data: see the column 'note'%s", marked, hint)


def predicted(
    card: saving.ModelCard, load: Callable[[], saving.SavedModel], samples: Given, find_faces: bool = False
) -> Generator[pd.DataFrame]:
    """Predict every head for each sample, batch by batch.

    Args:
        card: The description of the model.
        load: Returns the model; it is called when the first sample is decoded, and not if none can be read.
        samples: The samples.
        find_faces: Whether to predict each face of a picture; see ``require_known_crops``.

    Yields:
        Tables in the order of the samples, see ``table_of``.

    Raises:
        DataError: There are no samples.
    """
    with closing(decoded(card, samples.members, find_faces)) as outcomes:
        rows = itertools.chain.from_iterable(track(outcomes, "predicting", samples.total))
        # TensorFlow takes seconds to load. Samples are decoded meanwhile, and if none can be read it is not loaded.
        start: list[Row] = []
        for row in rows:
            start.append(row)
            if isinstance(row.outcome, Sample):
                break
        if not start:
            raise DataError("there are no samples: give files, folders, archives or tables")
        model = AnsweringModel(load()) if isinstance(start[-1].outcome, Sample) else None
        for batch in _batches(itertools.chain(start, rows), inference.PREDICTION_BATCH):
            yield table_of(model, batch)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch
