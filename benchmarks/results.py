"""Tables of the benchmarks: `benchmarks/results/<name>.md`, each with the machine that it was measured on."""

import datetime
import platform
from importlib.metadata import version
from pathlib import Path

from manyheads.runtime.hardware import describe, fastest_precision

FOLDER = Path(__file__).parent / "results"


def machine():
    """Return hardware and library versions in one line."""
    return (
        f"{describe()}, {fastest_precision()}; "
        f"{platform.system()}, Python {platform.python_version()}, TensorFlow {version('tensorflow-cpu')}, "
        f"Keras {version('keras')}; {datetime.date.today().isoformat()}"
    )


def write(name, command, header, rows, note=""):
    """Print a table and write it as Markdown.

    Args:
        name: Name of the file, without its ending.
        command: The command that gives the table.
        header: Names of the columns.
        rows: Cells of each row.
        note: A remark below the table.
    """
    lines = [" | ".join(cells) for cells in [header, ["---"] * len(header), *[[str(c) for c in row] for row in rows]]]
    table = "\n".join(f"| {line} |" for line in lines)
    print(table)
    FOLDER.mkdir(exist_ok=True)
    text = f"`{command}`\n\n{table}\n\n{note + chr(10) + chr(10) if note else ''}{machine()}\n"
    (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
