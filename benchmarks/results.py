"""Where the benchmarks' tables go: `benchmarks/results/<name>.md`, each with the machine that it was measured on."""

import datetime
import os
import platform
from importlib.metadata import version
from pathlib import Path

from manyheads.machine import CPU_INFO, available_cores, fastest_precision

FOLDER = Path(__file__).parent / "results"


def machine():
    """Return what a figure of speed depends on, in one line."""
    model = "an unnamed processor"
    if CPU_INFO.exists():
        named = [line.partition(":")[2].strip() for line in CPU_INFO.read_text().splitlines() if "model name" in line]
        model = named[0] if named else model
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{available_cores()} cores of {model}, {memory:.0f} GiB, {fastest_precision()}; "
        f"{platform.system()}, Python {platform.python_version()}, TensorFlow {version('tensorflow-cpu')}, "
        f"Keras {version('keras')}; {datetime.date.today().isoformat()}"
    )


def write(name, command, header, rows, note=""):
    """Print a table and keep it as Markdown.

    Args:
        name: Name of the file, without its ending.
        command: The command that gives the table.
        header: Names of the columns.
        rows: Cells of each row.
        note: What a reader has to know.
    """
    lines = [" | ".join(cells) for cells in [header, ["---"] * len(header), *[[str(c) for c in row] for row in rows]]]
    table = "\n".join(f"| {line} |" for line in lines)
    print(table)
    FOLDER.mkdir(exist_ok=True)
    text = f"`{command}`\n\n{table}\n\n{note + chr(10) + chr(10) if note else ''}{machine()}\n"
    (FOLDER / f"{name}.md").write_text(text, encoding="utf-8")
