"""Source: create or locate the raw data.

Writes ``data.path`` alone. Synthetic data is generated, other data is located. If it is missing, the error says where
to get it and under which terms. The raw data is this stage's output in DVC, so that DVC notices a change; it neither
copies nor deletes the data.
"""

from __future__ import annotations

import logging
from pathlib import Path

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.paths import Paths, main_project

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Create or locate the raw data.

    DVC runs some experiments in a temporary copy of the project, which lacks files that git ignores. There, the raw
    data of the main project is used.
    """
    target = outputs.root / config.data.path
    dataset = datasets.get(config.data.name, config.extensions)
    dataset.provide(target, main_project(inputs.root) / config.data.path)
    logger.info("%s data: %s, %.1f MB", config.data.name, config.data.path, _size(target) / 1e6)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
