"""Tables on the terminal."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Column, Table

UNLIMITED = 10_000
"""Width in columns where the output is no terminal, such as a file or a pipe: each row is one line."""


def print_table(console: Console, table: Table, keys: int) -> None:
    """Print a table whose headings and cells are never broken.

    On a terminal that is too narrow, the columns are divided among several tables. Each repeats the key columns, or
    those of them that leave half of the width to the others.

    Args:
        console: Console to print on.
        table: The table; it is not changed.
        keys: Number of columns, the first ones, that tell the rows apart.
    """
    shown = console.width
    available = shown if console.is_terminal else UNLIMITED
    for part in _parts(console, table, keys, available):
        # A row of a file is longer than the console assumes, and a single column may be wider than the terminal.
        console.width = max(shown, _width(console, part))
        console.print(part)
    console.width = shown


def _parts(console: Console, table: Table, keys: int, width: int) -> Iterator[Table]:
    if _width(console, _with_columns(table, table.columns)) > width:
        while keys and _width(console, _with_columns(table, table.columns[:keys])) > width // 2:
            keys -= 1
    first, rest = table.columns[:keys], table.columns[keys:]
    chosen: list[Column] = []
    for column in rest:
        if chosen and _width(console, _with_columns(table, [*first, *chosen, column])) > width:
            yield _with_columns(table, [*first, *chosen])
            chosen = []
        chosen.append(column)
    yield _with_columns(table, [*first, *chosen])


def _with_columns(table: Table, columns: list[Column]) -> Table:
    part = copy.copy(table)
    part.columns = [copy.copy(column) for column in columns]
    for index, column in enumerate(part.columns):
        column._index = index
        column.no_wrap = True
    return part


def _width(console: Console, table: Table) -> int:
    return console.measure(table, options=console.options.update(width=UNLIMITED)).maximum
