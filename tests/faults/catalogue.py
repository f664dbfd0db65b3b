"""The catalogue of faults: each row of ``catalogue.csv`` is a fault, what must come of it, and the tests that hold it.

make faults                                   # every test of the catalogue, then a storm of kills
pytest $(python tests/faults/catalogue.py)    # every test of the catalogue
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

TESTS = Path(__file__).parents[1]


class Row(NamedTuple):
    """A row of the catalogue.

    Attributes:
        row: The number, counted from 1.
        fault: The fault in words.
        expected: What the project promises to do.
        tests: The tests that hold it, as ``folder/test_file.py::test_name`` below ``tests/``.
        not_triable: Why no test can hold it, or an empty text.
    """

    row: int
    fault: str
    expected: str
    tests: tuple[str, ...]
    not_triable: str


def rows() -> list[Row]:
    """Return the rows of the catalogue in their order."""
    with Path(__file__).with_name("catalogue.csv").open(encoding="utf-8", newline="") as file:
        return [
            Row(int(row["row"]), row["fault"], row["expected"], tuple(row["tests"].split()), row["not_triable"])
            for row in csv.DictReader(file)
        ]


if __name__ == "__main__":
    print("\n".join(dict.fromkeys(f"{TESTS / test}" for row in rows() for test in row.tests)))
