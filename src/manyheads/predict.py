"""Predict: a saved model on new images; needs no DVC and no MLflow."""

from __future__ import annotations

import argparse
import itertools
import logging
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from manyheads import archives, model
from manyheads.errors import DataError
from manyheads.images import Pixels, Undecodable, decode
from manyheads.layout import Layout, project_root
from manyheads.machine import available_cores
from manyheads.progress import track
from manyheads.tables import write_table

logger = logging.getLogger(__name__)

CHUNK = 64
"""Images that a thread decodes at once."""

CHUNKS_IN_FLIGHT = 4
"""Chunks for each thread that are decoded ahead of the model: what bounds the memory."""

EPILOG = """examples:
  python -m manyheads predict photograph.jpg
  python -m manyheads predict data/raw/UTKFace.tar.gz --output predictions.csv
  python -m manyheads predict holiday/ portrait.jpg --model models --output predictions.csv

The table has a row for each image: its path, each head's value and the probability of each class, and in the column
"error" why an image could not be read. The exit code is 3 when no image could be read."""


def main(arguments: list[str]) -> None:
    """Parse the command line, predict, and write the table."""
    parser = argparse.ArgumentParser(
        prog="python -m manyheads predict", epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Predict every head for JPEG images.",
    )  # fmt: skip
    parser.add_argument(
        "paths", nargs="+", type=Path, metavar="PATH", help="a JPEG file, a folder, a .tar.gz or a .zip"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="CSV to write (default: standard output)")
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="a trained model (default: models/ of the project)"
    )
    options = parser.parse_args(arguments)
    members = [member for path in options.paths for member in [_members(path)]]
    model.require_tensorflow()
    saved = model.load(options.model or Layout(project_root()).model)
    table = predict_all(saved, itertools.chain.from_iterable(members))
    if options.output is None:
        table.to_csv(sys.stdout, index=False, lineterminator="\n")
    else:
        write_table(options.output, table)
    unread = int((table["error"] != "").sum())
    where = options.output or "standard output"
    logger.info("predicted %d images, %d could not be read: %s", len(table) - unread, unread, where)
    if unread == len(table):
        raise DataError(f"no image could be read in {', '.join(map(str, options.paths))}: see the column 'error'")


def _members(path: Path) -> Iterator[tuple[str, bytes | OSError]]:
    if not path.exists():
        raise DataError(f"{path} does not exist: give a JPEG file, a folder or an archive")
    if path.is_dir() or path.suffix.lower() not in (".jpg", ".jpeg"):
        return archives.contents(path)
    return iter([(str(path), path.read_bytes())])


def predict_all(saved: model.SavedModel, members: Iterable[tuple[str, bytes | OSError]]) -> pd.DataFrame:
    """Predict every head for each member.

    Args:
        saved: The model.
        members: Path and bytes of each image; an OSError stands for bytes that could not be read.

    Returns:
        One row a member, in their order: ``path``, the heads' columns (empty where unreadable), ``error``.
    """
    predictor = saved.predictor()
    decoded = _decoded(track(members, "predicting"), saved.card.size)
    tables = [_table(saved, predictor, batch) for batch in _batches(decoded, model.PREDICTION_BATCH)]
    if not tables:
        raise DataError("there is no image in what was given")
    return pd.concat(tables, ignore_index=True)


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _decoded(members: Iterable[tuple[str, bytes | OSError]], size: int) -> Iterator[tuple[str, Pixels | str]]:
    """Decode ahead of the model, in as many threads as there are cores: Pillow lets go of Python's lock.

    Yields:
        Each member's path and pixels, shape (size, size, 3), uint8, or why it could not be read.
    """
    cores = available_cores()
    with ThreadPoolExecutor(cores) as pool:
        pending: deque[Future[list[tuple[str, Pixels | str]]]] = deque()
        for chunk in _batches(members, CHUNK):
            pending.append(pool.submit(_decode, chunk, size))
            if len(pending) > CHUNKS_IN_FLIGHT * cores:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _decode(members: list[tuple[str, bytes | OSError]], size: int) -> list[tuple[str, Pixels | str]]:
    outcomes: list[tuple[str, Pixels | str]] = []
    for path, data in members:
        try:
            if isinstance(data, OSError):
                raise data
            outcomes.append((path, decode(data, size).pixels))
        except Undecodable as problem:
            outcomes.append((path, f"{problem.code}: {problem.reason}"))
        except OSError as problem:
            outcomes.append((path, f"IO_ERROR: {problem.strerror or problem}"))
    return outcomes


def _table(saved: model.SavedModel, predictor: model.Predictor, batch: list[tuple[str, Pixels | str]]) -> pd.DataFrame:
    errors = [outcome if isinstance(outcome, str) else "" for _, outcome in batch]
    table = pd.DataFrame({"path": [path for path, _ in batch], "error": errors})
    images = {row: outcome for row, (_, outcome) in enumerate(batch) if not isinstance(outcome, str)}
    values = pd.DataFrame(index=table.index)
    if images:
        outputs = predictor(np.stack(list(images.values())))
        columns: dict[str, Any] = {}
        for name, head in saved.card.heads.items():
            columns |= head.columns(name, outputs[name])
        values = pd.DataFrame(columns, index=list(images)).reindex(table.index)
    return pd.concat([table[["path"]], values, table[["error"]]], axis=1)
