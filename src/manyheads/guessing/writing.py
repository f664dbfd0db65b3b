"""The text of ``conf/data/NAME.yaml``: short, commented, and what a person would write."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml

from manyheads.guessing.proposals import Part, Proposal

WIDTH = 118
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./ -]*[A-Za-z0-9_./]|[A-Za-z]")


def text_of(name: str, path: str, proposal: Proposal) -> str:
    """Return the text of the file.

    Args:
        name: Name of the option, ``NAME`` of ``data=NAME``.
        path: Path of the data, relative to the project's root.
        proposal: Heads, inputs and settings.
    """
    first = next(iter(proposal.heads))
    lines = [
        "# @package _global_",
        f"# data={name}: {proposal.summary}.",
        "# `python -m manyheads new` guessed this file from the data; change what is wrong.",
        f"#   make repro ARGS='data={name}'",
        f"#   dvc exp run -S data={name}          the same as an experiment",
        "defaults:",
        "  # A network by the kinds of the inputs, and each head's usual loss with weight 1.",
        f"  # Another weight: -S ++loss.weights.{first}=3",
        "  - override /model: default",
        "  - override /loss: default",
        "  - override /train: base",
    ]
    if proposal.split != "clean":
        lines += [f"  # {proposal.split_comment}", f"  - override /split: {proposal.split}"]
    lines += [
        "",
        "# 3 lists labels that look wrong, and takes as long as three more trainings of 4 epochs.",
        "audit: {folds: 0}",
    ]
    lines += ["data:", f"  name: {scalar(proposal.dataset)}", f"  path: {scalar(path)}"]
    lines += ["  # The largest share of samples that may be rejected; data/rejected.csv says which and why."]
    lines += [f"  max_reject_fraction: {proposal.max_reject_fraction:g}"]
    if columns := proposal.columns():
        lines += ["  # Names in the table, where they differ.", "  columns:"]
        for key, value in columns.items():
            lines += _entry(key, list(value) if isinstance(value, tuple) else value, 4)
    lines += ["  heads:", *_parts(proposal.heads, 4)]
    lines += ["inputs:", *_parts(proposal.inputs, 2)]
    lines += [*_comment(proposal.train_comment, 0), f"train: {flow(proposal.train)}"]
    return "\n".join(lines) + "\n"


def _parts(parts: Mapping[str, Part], indent: int) -> list[str]:
    lines = []
    for name, part in parts.items():
        lines += _comment(part.comment, indent)
        lines += _entry(name, part.settings, indent)
    return lines


def _comment(text: str, indent: int) -> list[str]:
    """Return the lines of a comment; none for an empty text."""
    start = " " * indent + "# "
    return textwrap.wrap(text, WIDTH, initial_indent=start, subsequent_indent=start)


def _entry(key: str, value: Any, indent: int) -> list[str]:
    """Return the lines of a key and its value, on one line if they fit."""
    blank = " " * indent
    line = f"{blank}{key}: {flow(value)}"
    if len(line) <= WIDTH:
        return [line]
    if isinstance(value, Mapping):
        return [f"{blank}{key}:"] + [line for inner, each in value.items() for line in _entry(inner, each, indent + 2)]
    if isinstance(value, list):
        # A list in flow style may go over several lines, which keeps a long one readable.
        pieces = [scalar(each) for each in value]
        rows, row = [], f"{blank}  "
        for number, piece in enumerate(pieces):
            piece += "," if number + 1 < len(pieces) else ""
            if len(row) + len(piece) > WIDTH and row.strip():
                rows.append(row.rstrip())
                row = f"{blank}  "
            row += f"{piece} "
        return [f"{blank}{key}: [", *rows, row.rstrip(), f"{blank}]"]
    return [line]


def flow(value: Any) -> str:
    """Return a value in YAML's flow style."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(each) for each in value) + "]"
    return scalar(value)


def scalar(value: Any) -> str:
    """Return a number or a text in YAML; a text is quoted unless every reader takes it for a text.

    Example:
        >>> scalar("red wine"), scalar("yes"), scalar("1")
        ('red wine', '"yes"', '"1"')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    # OmegaConf would read ${...} as a reference.
    text = str(value).replace("${", "\\${")
    # The names of YAML 1.1 for booleans, among them "y" and "no", are texts in 1.2.
    if _PLAIN.fullmatch(text) and text.lower() not in ("y", "n") and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=False)
