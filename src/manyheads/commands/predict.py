"""Predict: run a saved model on new samples, without DVC and MLflow."""

from __future__ import annotations

import functools
import itertools
import logging
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from manyheads.commands import parsers
from manyheads.commands.given import Given, given
from manyheads.config.loading import read_params
from manyheads.data.tables import write_table
from manyheads.errors import ConfigError, DataError
from manyheads.modeling import inference, novelty, saving
from manyheads.paths import Paths, project_around, project_root
from manyheads.preprocessing.decoding import Raw, Refused, Sample, decode, in_processes
from manyheads.runtime.progress import track

logger = logging.getLogger(__name__)

PLACE = ("face", "left", "top", "width", "height")
"""The columns of a face: its number from left to right, and its box in pixels of the upright picture."""


PICTURES_AT_ONCE = 4
"""Number of pictures that a process searches at a time; one of 50 megapixels takes seconds."""

Place = tuple[int | str, ...] | None
Placed = list[tuple[Place, Sample | Refused]]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        path: Path of the file that the sample is from.
        place: The values of ``PLACE`` if faces are found.
        outcome: The decoded sample, or its refusal.
    """

    path: str
    place: Place
    outcome: Sample | Refused


def main(arguments: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    options = parsers.predict().parse_args(arguments)
    folder, prefixes = options.model or Paths(project_root()).model, _prefixes()
    card = saving.read_card(folder, prefixes)
    _check_findable(card, options.find_faces)
    samples = given(options.paths, card.inputs, card.columns)
    # TensorFlow takes seconds to load; by then it is known that there is something to predict.
    table = predict_all(card, lambda: saving.load(folder, prefixes), samples, options.find_faces)
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


def _prefixes() -> list[str]:
    """Return the packages of the user's own heads, from the project's params.yaml; none outside a project."""
    root = project_around()
    params = root / "params.yaml" if root else None
    return list(read_params(params).extensions) if params and params.exists() else []


def _check_findable(card: saving.ModelCard, find_faces: bool) -> None:
    from manyheads.faces.crops import CALIBRATIONS

    if not find_faces:
        return
    if len(card.inputs) > 1:
        raise ConfigError(f"--find-faces takes a model of one picture; this one takes {', '.join(card.inputs)}")
    if card.data not in CALIBRATIONS:
        raise ConfigError(
            f"--find-faces crops faces as {', '.join(CALIBRATIONS)} does; this model was trained on {card.data!r}, "
            "whose crops are not known: leave the option out"
        )


def _log_notes(card: saving.ModelCard, table: pd.DataFrame, find_faces: bool) -> None:
    from manyheads.faces.crops import CALIBRATIONS

    if card.reference is None:
        logger.info("this model does not say what it was trained on, so there are no notes: train it again to get them")
    elif marked := int((table["note"] != "").sum()):
        hint = "; --find-faces finds and crops faces" if card.data in CALIBRATIONS and not find_faces else ""
        logger.info("%d samples are unlike the training data: see the column 'note'%s", marked, hint)


def predict_all(
    card: saving.ModelCard, load: Callable[[], saving.SavedModel], samples: Given, find_faces: bool = False
) -> pd.DataFrame:
    """Predict every head for each sample.

    Args:
        card: The description of the model.
        load: Returns the model; it is called when the first sample is decoded, and not if none can be read.
        samples: Path and bytes of each sample's inputs, by input; an OSError replaces bytes that could not be read.
        find_faces: Whether to predict each face of a picture, for a model whose dataset is in ``CALIBRATIONS``.

    Returns:
        In the order of the samples: ``path``, with ``find_faces`` the columns ``PLACE``, the heads' columns (empty if
        the sample is unreadable), ``note``, ``error``.

    Raises:
        DataError: There are no samples.
    """
    with closing(_rows(card, samples, find_faces)) as rows:
        # TensorFlow takes seconds to load. Samples are decoded meanwhile, and if none can be read it is not loaded.
        start: list[Row] = []
        for row in rows:
            start.append(row)
            if isinstance(row.outcome, Sample):
                break
        if not start:
            raise DataError("there are no samples: give files, folders, archives or tables")
        if isinstance(start[-1].outcome, Refused):
            return _table(card, None, None, start)
        saved = load()
        predictor = saved.predictor()
        batches = _batches(itertools.chain(start, rows), inference.PREDICTION_BATCH)
        tables = [_table(card, predictor, saved.directions, batch) for batch in batches]
    return pd.concat(tables, ignore_index=True)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _rows(card: saving.ModelCard, samples: Given, find_faces: bool) -> Generator[Row]:
    """Decode samples ahead of the model, in one process a core."""
    paths: deque[str] = deque()

    def raw() -> Iterator[Raw]:
        for row, (path, data) in enumerate(samples.members):
            paths.append(_printable(path))
            yield Raw(row, data)

    with closing(_found(card, raw()) if find_faces else _whole(card, raw())) as outcomes:
        for outcome in track(outcomes, "predicting", samples.total):
            path = paths.popleft()
            yield from (Row(path, place, each) for place, each in outcome)


def _whole(card: saving.ModelCard, raw: Iterator[Raw]) -> Generator[Placed]:
    with closing(in_processes(raw, functools.partial(decode, card.inputs))) as outcomes:
        for outcome in outcomes:
            yield [(None, outcome)]


def _found(card: saving.ModelCard, raw: Iterator[Raw]) -> Generator[Placed]:
    from manyheads.faces.crops import CALIBRATIONS
    from manyheads.faces.finding import find

    work = functools.partial(find, card.inputs, CALIBRATIONS[card.data])
    with closing(in_processes(raw, work, chunk=PICTURES_AT_ONCE)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                yield [(("",) * len(PLACE), outcome)]
            else:
                yield [((number, *each.face.box), each.outcome) for number, each in enumerate(outcome, 1)]


def _printable(path: str) -> str:
    r"""Return a path as valid UTF-8 for a CSV, with other bytes written as ``\xff``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _table(
    card: saving.ModelCard,
    predictor: inference.Predictor | None,
    directions: novelty.Directions | None,
    batch: list[Row],
) -> pd.DataFrame:
    table = pd.DataFrame({"path": [row.path for row in batch]})
    if batch[0].place is not None:
        table = pd.concat(
            [table, pd.DataFrame([row.place for row in batch], columns=list(PLACE), dtype=object)], axis=1
        )
    refused = {number: row.outcome for number, row in enumerate(batch) if isinstance(row.outcome, Refused)}
    read = {number: row.outcome for number, row in enumerate(batch) if isinstance(row.outcome, Sample)}
    notes = {number: _unusual(card, sample) for number, sample in read.items()}
    columns = pd.DataFrame(index=table.index)
    if read and predictor:
        arrays = {name: np.stack([sample.inputs[name] for sample in read.values()]) for name in card.inputs}
        outputs, features = predictor.with_features(arrays)
        predicted: dict[str, Any] = {}
        for name, head in card.heads.items():
            predicted |= head.prediction_columns(outputs[name])
        # As objects, because a whole number beside an empty cell would become a fraction.
        columns = pd.DataFrame(predicted, index=list(read), dtype=object).reindex(table.index)
        if card.reference and card.reference.distance_limit is not None and directions is not None:
            novelty.check(directions, features.shape[1])
            for number, distance in zip(read, novelty.distances(features, directions), strict=True):
                notes[number] += _far(distance, card.reference.distance_limit)
    last = {
        "note": ["; ".join(notes.get(number, [])) for number in table.index],
        "error": [f"{refused[n].code}: {refused[n].reason}" if n in refused else "" for n in table.index],
    }
    return pd.concat([table, columns, pd.DataFrame(last)], axis=1)


def _unusual(card: saving.ModelCard, sample: Sample) -> list[str]:
    return novelty.unusual_properties(card.reference, card.inputs, sample.properties) if card.reference else []


def _far(distance: float, limit: float) -> list[str]:
    usual = f"{1 - novelty.MARKED_SHARE:.0%}".replace("%", " %")
    return [f"distance {distance:.2f}, for {usual} of validation below {limit:.2f}"] if distance > limit else []
