"""A folder of predictions in parts, which the same command continues after it was stopped.

The folder is one dataset: ``part-00000.parquet`` and so on, each of the same number of samples but the last, with the
same columns and types. A part is written beside and renamed, so that a part that is there is whole. ``_parts.json``
says what the parts belong to, and ``_summary.json`` is written when all are there. Readers of Parquet pass over names
that begin with ``_`` or a dot.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from manyheads.errors import DataError, IntegrityError
from manyheads.prediction.writing import Counts
from manyheads.runtime.files import read_json, write_text
from manyheads.runtime.locks import exclusive_lock

SAMPLES = 12_800
"""Number of samples of a part. It is a multiple of the samples that the model predicts at once."""

PACKAGES = ("manyheads", "tensorflow", "tensorflow-cpu", "keras", "numpy", "opencv-python-headless", "pillow")
"""The packages that predictions depend on, where they are installed."""

COMMAND = "python -m manyheads predict … --output FOLDER/"


class Parts:
    """The parts of a folder.

    Attributes:
        folder: The folder.
        done: Number of parts that are there.
        is_complete: Whether all parts are there.
        counts: Counts of the rows of the parts that are there.
    """

    def __init__(self, folder: Path) -> None:
        """Look at the parts that are there; see ``opened``."""
        self.folder = folder
        self.counts = Counts()
        self.done = next(number for number in itertools.count() if not self.part(number).exists())
        for number in range(self.done):
            self.counts.add(self._said(number))
        # A part may have been deleted since the summary was written.
        self.is_complete = self._summary.exists() and self._said_rows() == self.counts.rows

    @property
    def samples(self) -> int:
        """Number of samples in the parts that are there, if there are more samples than that."""
        return self.done * SAMPLES

    @property
    def _summary(self) -> Path:
        return self.folder / "_summary.json"

    def part(self, number: int) -> Path:
        """Return the path of a part, counted from 0."""
        return self.folder / f"part-{number:05d}.parquet"

    def _said(self, number: int) -> pd.DataFrame:
        path = self.part(number)
        try:
            return pd.read_parquet(path, columns=["note", "error"])
        except (OSError, ValueError) as error:
            raise IntegrityError(
                f"{path} is damaged ({' '.join(str(error).split())[:200]}): delete it, and the same command makes it "
                "and the parts after it again"
            ) from error

    def _said_rows(self) -> Any:
        summary = read_json(self._summary, COMMAND)
        return summary.get("rows") if isinstance(summary, dict) else None

    def finish(self) -> None:
        """Write the summary of all rows."""
        counts = self.counts
        values = {
            "rows": counts.rows,
            "predicted": counts.predicted,
            "unreadable": counts.unreadable.total(),
            "unreadable_by_code": dict(counts.unreadable.most_common()),
            "noted": counts.noted,
        }
        write_text(self._summary, json.dumps(values, indent=2) + "\n")


@contextmanager
def opened(folder: Path, belongs_to: Mapping[str, Any]) -> Iterator[Parts]:
    """Open a folder for parts, and hold its lock.

    Args:
        folder: A folder of parts, an empty folder, or one that does not exist.
        belongs_to: What the parts depend on beside the versions of packages, as JSON values.

    Yields:
        The parts that are there.

    Raises:
        DataError: The folder has other files.
        IntegrityError: The parts belong to something else, or a file is damaged.
        MachineError: Another process writes the folder, or it cannot be written.
    """
    record = folder / "_parts.json"
    wanted = {**belongs_to, "versions": _versions(), "samples_of_a_part": SAMPLES}
    if not record.exists() and folder.is_dir() and any(path.name != ".lock" for path in folder.iterdir()):
        raise DataError(f"{folder} has other files than predictions: name a folder that is empty or does not exist")
    with exclusive_lock(folder / ".lock", f"writes predictions to {folder}"):
        if record.exists():
            _require_same(folder, read_json(record, COMMAND), json.loads(json.dumps(wanted)))
        else:
            write_text(record, json.dumps(wanted, indent=2) + "\n")
        for unfinished in folder.glob(".*.tmp"):
            unfinished.unlink()
        yield Parts(folder)


def _require_same(folder: Path, there: Any, wanted: Mapping[str, Any]) -> None:
    there = there if isinstance(there, dict) else {}
    for key, value in wanted.items():
        if (was := there.get(key)) != value:
            what = key.replace("_", " ")
            raise IntegrityError(
                f"{folder} holds predictions with other {what} ({_short(was)}, not {_short(value)}): name another "
                "folder, or delete this one"
            )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def by_samples(outcomes: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """Yield the outcomes of the samples of each part, which are to be taken before those of the next."""
    numbered = enumerate(outcomes)
    for _, part in itertools.groupby(numbered, lambda each: each[0] // SAMPLES):
        yield (outcome for _, outcome in part)
