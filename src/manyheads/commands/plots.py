"""Plots: make ``dvc plots`` write pages that need no network."""

from __future__ import annotations

import subprocess
import sys

from manyheads.commands import parsers
from manyheads.errors import MachineError
from manyheads.paths import project_root
from manyheads.reporting.dvc_plots import page_template
from manyheads.runtime.files import write_text

# Relative to .dvc, in a folder that git ignores, because the page has about 1 MB.
PAGE = "tmp/plots.html"


def main(arguments: list[str]) -> None:
    """Write the page that `dvc plots show` and `dvc plots diff` fill, and name it in .dvc/config.local."""
    parsers.plots().parse_args(arguments)
    root = project_root()
    write_text(root / ".dvc" / PAGE, page_template())
    command = [sys.executable, "-m", "dvc", "config", "--local", "plots.html_template", PAGE]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MachineError(f"cannot set the page of plots in .dvc/config.local: {' '.join(done.stderr.split())[:200]}")
