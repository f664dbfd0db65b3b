"""Examples in the report: random samples, the worst mistakes, and labels that look wrong."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.heads import Head
from manyheads.reporting.contents import Contents

EXAMPLES = 12
"""Number of samples in each random selection."""

MISTAKES = 8
"""Number of the worst samples of each head."""


class Example(NamedTuple):
    """A sample that is shown.

    Attributes:
        path: Path of the sample.
        image: A ``data:`` URL of a JPEG, or an empty text.
        lines: For each head, whether the prediction is correct, and a text with prediction and label.
    """

    path: str
    image: str
    lines: list[tuple[bool, str]]


def random_examples(contents: Contents) -> dict[str, list[Example]]:
    """Return random samples: some with every prediction correct, some with a wrong prediction."""
    if contents.thumbnails is None:
        return {}
    table = contents.predictions
    correct = np.logical_and.reduce([_correct(head, table) for head in contents.heads.values()])
    chosen = {
        "every head correct": table[correct],
        "some head wrong": table[~correct],
    }
    return {
        title: _shown(contents, rows.sample(min(EXAMPLES, len(rows)), random_state=0))
        for title, rows in chosen.items()
        if len(rows)
    }


def worst_mistakes(contents: Contents) -> dict[str, list[Example]]:
    """Return each head's worst mistakes: the most confident wrong classes, or the largest errors."""
    if contents.thumbnails is None:
        return {}
    found = {}
    for name, head in contents.heads.items():
        table = contents.predictions
        if head.class_names:
            wrong = table[~_correct(head, table)]
            confidence = wrong[list(head.extra_columns)].max(axis=1)
            worst = wrong.assign(_confidence=confidence).sort_values("_confidence", ascending=False)
            title = f"{name}: most confident mistakes"
        else:
            labels, contributions = head.recorded(table)
            errors = table.assign(_error=head.errors(contributions))[head.present(labels)]
            worst = errors.sort_values("_error", ascending=False)
            title = f"{name}: largest errors"
        found[title] = _shown(contents, worst.head(MISTAKES))
    return found


def label_issue_examples(contents: Contents) -> dict[str, list[Example]]:
    """Return the labels that the audit contradicts most by head, with thumbnails if there are any."""
    found: dict[str, list[Example]] = {}
    for name, rows in contents.label_issues.groupby("head", sort=False):
        paths = rows["path"].tolist()
        images = [""] * len(rows) if contents.thumbnails is None else _data_urls(contents, paths)
        found[str(name)] = [
            Example(path, image, [(False, f"{row.rank}: labelled {row.label}, looks like {row.predicted}")])
            for path, image, row in zip(paths, images, rows.itertuples(), strict=True)
        ]
    return found


def _correct(head: Head, table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Return whether each prediction counts as correct, shape (n,); without a label it does."""
    labels, contributions = head.recorded(table)
    return head.is_correct(contributions) | ~head.present(labels)


def _data_urls(contents: Contents, paths: Sequence[str]) -> list[str]:
    """Return samples' thumbnails as ``data:`` URLs."""
    thumbnails = contents.thumbnails(paths) if contents.thumbnails else []
    return [f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}" for jpeg in thumbnails]


def _shown(contents: Contents, rows: pd.DataFrame) -> list[Example]:
    if contents.thumbnails is None or rows.empty:
        return []
    correct = {name: _correct(head, rows) for name, head in contents.heads.items()}
    examples, paths = [], rows["path"].tolist()
    for i, (path, image) in enumerate(zip(paths, _data_urls(contents, paths), strict=True)):
        lines = []
        for name, head in contents.heads.items():
            columns = head.label_columns
            predicted, label = (
                " ".join(_cell(rows[column].iloc[i]) for column in chosen)
                for chosen in (columns, [f"{column}_label" for column in columns])
            )
            known = f"{predicted} (labelled {label or 'nothing'})"
            lines.append((bool(correct[name][i]), predicted if predicted == label else known))
        examples.append(Example(path, image, lines))
    return examples


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if pd.isna(value) else f"{value:.3g}"
