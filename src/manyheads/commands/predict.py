"""Predict: run a saved model on new samples, without DVC and MLflow."""

from __future__ import annotations

import functools
import itertools
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from manyheads.commands import parsers
from manyheads.config.loading import read_params
from manyheads.data.tables import write_table
from manyheads.datasets import archives, table_contents
from manyheads.errors import DataError
from manyheads.inputs import Input
from manyheads.modeling import inference, saving
from manyheads.paths import Paths, project_around, project_root
from manyheads.preprocessing.decoding import Raw, Refused, Sample, decode, in_processes
from manyheads.runtime import tensorflow
from manyheads.runtime.progress import track

logger = logging.getLogger(__name__)

Member = tuple[str, Mapping[str, bytes] | OSError]
Outcome = tuple[str, Sample | Refused]


def main(arguments: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    options = parsers.predict().parse_args(arguments)
    for path in options.paths:
        if not path.exists():
            raise DataError(f"{path} does not exist: give a JPEG file, a folder, an archive or a table")
    tensorflow.require_tensorflow()
    saved = saving.load(options.model or Paths(project_root()).model, _prefixes())
    members = [member for path in options.paths for member in [_members(path, list(saved.card.inputs))]]
    table = predict_all(saved, itertools.chain.from_iterable(members))
    if options.output is None:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        write_table(options.output, table)
    unread = int((table["error"] != "").sum())
    where = options.output or "standard output"
    logger.info("predicted %d samples, %d could not be read: %s", len(table) - unread, unread, where)
    if unread == len(table):
        raise DataError(f"no sample could be read in {', '.join(map(str, options.paths))}: see the column 'error'")


def _prefixes() -> Sequence[str]:
    """Return the packages of the user's own heads, from the project's params.yaml; none outside a project."""
    root = project_around()
    params = root / "params.yaml" if root else None
    return read_params(params).extensions if params and params.exists() else ()


def _members(path: Path, inputs: Sequence[str]) -> Iterator[Member]:
    if path.suffix.lower() in (".csv", ".parquet"):
        return table_contents(path, inputs)
    if len(inputs) > 1:
        raise DataError(f"the model takes {', '.join(inputs)}: give a table with these columns, not {path}")
    files = (
        archives.contents(path)
        if path.is_dir() or path.suffix.lower() not in (".jpg", ".jpeg")
        else iter([(str(path), path.read_bytes())])
    )
    return ((name, data if isinstance(data, OSError) else {inputs[0]: data}) for name, data in files)


def predict_all(saved: saving.SavedModel, members: Iterable[Member]) -> pd.DataFrame:
    """Predict every head for each sample.

    Args:
        saved: The model.
        members: Path and bytes of each sample's inputs, by input; an OSError replaces bytes that could not be read.

    Returns:
        One row a sample, in the same order: ``path``, the heads' columns (empty if it is unreadable), ``error``.

    Raises:
        DataError: There are no samples.
    """
    predictor = saved.predictor()
    decoded = track(_decoded(members, saved.card.inputs), "predicting")
    tables = [_table(saved, predictor, batch) for batch in _batches(decoded, inference.PREDICTION_BATCH)]
    if not tables:
        raise DataError("the given paths have no samples: give JPEG files, folders, archives or tables")
    return pd.concat(tables, ignore_index=True)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _decoded(members: Iterable[Member], inputs: Mapping[str, Input]) -> Iterator[Outcome]:
    """Decode samples ahead of the model, in one process a core."""
    paths: deque[str] = deque()

    def raw() -> Iterator[Raw]:
        for row, (path, data) in enumerate(members):
            paths.append(_printable(path))
            yield Raw(row, data)

    with closing(in_processes(raw(), functools.partial(decode, inputs))) as outcomes:
        for outcome in outcomes:
            yield paths.popleft(), outcome


def _printable(path: str) -> str:
    r"""Return a path as valid UTF-8 for a CSV, with other bytes written as ``\xff``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _table(saved: saving.SavedModel, predictor: inference.Predictor, batch: list[Outcome]) -> pd.DataFrame:
    errors = [f"{each.code}: {each.reason}" if isinstance(each, Refused) else "" for _, each in batch]
    table = pd.DataFrame({"path": [path for path, _ in batch], "error": errors})
    read = {row: each.inputs for row, (_, each) in enumerate(batch) if isinstance(each, Sample)}
    columns = pd.DataFrame(index=table.index)
    if read:
        outputs = predictor({name: np.stack([each[name] for each in read.values()]) for name in saved.card.inputs})
        predicted: dict[str, Any] = {}
        for name, head in saved.card.heads.items():
            predicted |= head.prediction_columns(outputs[name])
        columns = pd.DataFrame(predicted, index=list(read)).reindex(table.index)
    return pd.concat([table[["path"]], columns, table[["error"]]], axis=1)
