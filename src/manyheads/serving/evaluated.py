"""How often answers of a model are right, from the evaluation of its run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from manyheads.modeling.saving import ModelCard

DIGITS = 4
"""Digits after the point of a metric, as in ``reports/metrics.json``."""


class Evaluated:
    """The evaluation of a model, by confidence.

    Attributes:
        heads: The metrics of each head by name; empty if the model was not evaluated here.
        model_card: The model card in Markdown, or an empty text.
    """

    def __init__(self, card: ModelCard, reports: Path | None) -> None:
        """Read the evaluation.

        Args:
            card: The description of the model.
            reports: A folder with ``evaluation.json`` and ``model_card.md``. Those of another model are not used.
        """
        self.heads: Mapping[str, Any] = {}
        self.model_card = ""
        if reports is None:
            return
        evaluation = json.loads((reports / "evaluation.json").read_text(encoding="utf-8"))
        if evaluation.get("model") == card.digest:
            self.heads = evaluation["heads"]
            self.model_card = (reports / "model_card.md").read_text(encoding="utf-8")
        self._n = evaluation["n"]

    def tested(self, name: str, confidence: float | None) -> dict[str, Any] | None:
        """Return the head's main metric over the test samples that were answered at least as surely.

        Args:
            name: The head.
            confidence: The confidence of an answer, or None if the head has none: then all test samples count.

        Returns:
            The metric's name, its value and interval, the number of these samples, and their share of all; None if the
            model was not evaluated here.
        """
        if name not in self.heads:
            return None
        found = self.heads[name]
        metric = found["main_metric"]
        # Of equal confidences the largest share comes first, and all samples count if each was answered more surely.
        rows = found.get("selective", [])
        reached = [row for row in rows if confidence is not None and row["confidence"] <= confidence]
        row = max(reached, key=lambda row: row["confidence"], default=rows[0] if rows else None)
        figure, samples, share = (
            (found["metrics"][metric], self._n, 1.0)
            if row is None
            else (
                row["metric"],
                row["n"],
                row["kept"],
            )
        )
        rounded = {end: None if value is None else round(value, DIGITS) for end, value in figure.items()}
        return {"metric": metric, **rounded, "samples": samples, "share": share}
