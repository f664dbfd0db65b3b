"""Figures as PNG files: curves, confusion matrices, predictions against labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from manyheads.heads import Head, Labels, Outputs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DOTS_PER_INCH = 110


def draw_all(
    folder: Path,
    history: pd.DataFrame,
    heads: Mapping[str, Head],
    labels: Mapping[str, Labels],
    outputs: Mapping[str, Outputs],
) -> None:
    """Write ``curves.png`` and one ``<head>.png`` a head into an existing folder.

    Args:
        folder: Where the files go.
        history: Figures of each epoch, with columns named ``val/<head>/<metric>``.
        heads: The heads by name.
        labels: Each head's test labels, shape (n,).
        outputs: Each head's test outputs, shape (n, units).
    """
    _save(_curves(history, heads), folder / "curves.png")
    for name, head in heads.items():
        known = head.present(labels[name])
        _save(head.figure(name, labels[name][known], outputs[name][known]), folder / f"{name}.png")


def _save(figure: Figure, path: Path) -> None:
    # Without the date and version that Matplotlib adds, the same figures give the same bytes.
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


def _curves(history: pd.DataFrame, heads: Mapping[str, Head]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(3.2 * (len(heads) + 1), 3), layout="constrained")
    axes = np.atleast_1d(figure.subplots(1, len(heads) + 1))
    best = int(history["epoch"].iloc[history["val/score"].argmax()])
    series = [(f"{name} {head.main_metric}", f"{name}/{head.main_metric}") for name, head in heads.items()]
    for axis, (title, column) in zip(axes, [*series, ("score (validation)", "score")], strict=True):
        for part, label in (("train", "train"), ("val", "validation")):
            if f"{part}/{column}" in history:
                axis.plot(history["epoch"], history[f"{part}/{column}"], label=label, marker=".")
        axis.axvline(best, color="grey", linestyle=":", linewidth=1, label=f"best, {best}")
        axis.set(title=title, xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize="small")
    return figure
