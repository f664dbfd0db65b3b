"""Answers for a data frame of samples, in this process."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import pandas as pd

from manyheads.errors import Unreadable
from manyheads.inputs import Input
from manyheads.modeling.inference import PREDICTION_BATCH
from manyheads.prediction.answers import AnsweringModel
from manyheads.prediction.tables import Row, table_of
from manyheads.preprocessing.decoding import Raw, Refused, Sample, decode


def answered(model: AnsweringModel, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions for the rows of a data frame.

    Args:
        model: The model.
        frame: A column for each input, by its name. Cells are such as ``Input.bytes_of`` takes, or missing.

    Returns:
        One row for each row, with its index: the heads' columns (None if the sample could not be read), ``note``,
        ``error``.
    """
    kinds = model.card.inputs
    cells = frame[list(kinds)].to_dict("records")
    rows = [Row("", None, _outcome(kinds, number, values)) for number, values in enumerate(cells)]
    starts = range(0, max(1, len(rows)), PREDICTION_BATCH)
    tables = [table_of(model, rows[start : start + PREDICTION_BATCH]) for start in starts]
    table = pd.concat(tables).drop(columns="path").set_axis(frame.index)
    return table.where(table.notna(), None)  # JSON has no NaN


def _outcome(kinds: Mapping[str, Input], row: int, values: Mapping[Hashable, Any]) -> Sample | Refused:
    try:
        data = {name: kind.bytes_of(_known(values[name])) for name, kind in kinds.items()}
    except Unreadable as problem:
        return Refused(row, problem.code, problem.reason)
    return decode(kinds, [Raw(row, data)])[0]


def _known(value: Any) -> Any:
    """Return None instead of the numbers and objects that stand for a missing cell."""
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
