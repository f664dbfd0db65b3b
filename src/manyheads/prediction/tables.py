"""The table of predictions: a row for each sample, or for each face of a picture, whether it can be read or not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from manyheads.prediction.answers import AnsweringModel
from manyheads.preprocessing.decoding import Refused, Sample

PLACE = ("face", "left", "top", "width", "height")
"""The columns of a face: its number from left to right, and its box in pixels of the upright picture."""

Place = tuple[int | str, ...] | None


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


def table_of(model: AnsweringModel | None, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the predictions for some samples.

    Args:
        model: The model; None if no sample could be read, so that it is not needed.
        rows: The samples, at least one.

    Returns:
        One row a sample: ``path``, the columns ``PLACE`` if faces are found, the heads' columns (empty if the sample
        could not be read; no columns without a model), ``note``, ``error``.
    """
    places = [row.place for row in rows if row.place is not None]
    refused = {number: row.outcome for number, row in enumerate(rows) if isinstance(row.outcome, Refused)}
    read = {number: row.outcome for number, row in enumerate(rows) if isinstance(row.outcome, Sample)}
    index = pd.RangeIndex(len(rows))
    first = pd.DataFrame({"path": [row.path for row in rows]}, index=index)
    place = pd.DataFrame(places, columns=list(PLACE), dtype=object) if places else pd.DataFrame(index=index)
    names = [name for head in model.columns.values() for name in head] if model else []
    # As objects, because a whole number beside an empty cell would become a fraction.
    columns = pd.DataFrame(index=index, columns=names, dtype=object)
    notes = [""] * len(rows)
    if read and model:
        answers = model(list(read.values()))
        predicted = {name: values for head in answers.heads.values() for name, values in head.items()}
        columns = pd.DataFrame(predicted, index=list(read), dtype=object).reindex(index)
        for number, note in zip(read, answers.notes, strict=True):
            notes[number] = note
    errors = [f"{refused[n].code}: {refused[n].reason}" if n in refused else "" for n in index]
    return pd.concat([first, place, columns, pd.DataFrame({"note": notes, "error": errors})], axis=1)
