import io

import pytest
from rich import box
from rich.console import Console
from rich.table import Table

from manyheads.reporting.terminal import print_table

HEADINGS = ["", "loss.weights.age", "learning_rate", "seeds", "age\nMAE", "race\nmacro F1", "score", "to best"]
ROWS = [["*F", "0.25", "0.001", "3", "5.83", "0.81", "2.14", ""], ["~", "1", "0.01", "3", "5.9", "0.8", "2.1", "-0.04"]]


def printed(width, terminal):
    table = Table(box=box.SIMPLE_HEAD)
    for heading in HEADINGS:
        table.add_column(heading)
    for row in ROWS:
        table.add_row(*row)
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    print_table(console, table, keys=3)
    console.print("after it")
    return file.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 120])
def test_no_heading_and_no_cell_is_broken_on_a_terminal(width):
    text = printed(width, terminal=True)
    words = [line for heading in HEADINGS for line in heading.splitlines()] + [cell for row in ROWS for cell in row]
    assert all(word in text for word in words)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_gets_several_tables_with_the_key_columns():
    assert printed(60, terminal=True).count("loss.weights.age") > 1
    assert printed(120, terminal=True).count("loss.weights.age") == 1


def test_in_a_pipe_each_row_is_one_line():
    lines = printed(60, terminal=False).splitlines()
    assert any(all(word in line for word in ROWS[1]) for line in lines)
    assert lines[-1] == "after it"
