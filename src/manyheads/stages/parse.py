"""Parse: read the labels of all samples from the raw data.

Reads file names, a table, or annotations, and decodes no input. Writes the manifest (accepted samples and their labels,
sorted by path) and a table of rejected samples with a code and a reason each, so that every sample is accounted for
before any is decoded.
"""

from __future__ import annotations

import logging
from collections import Counter

import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data import tables
from manyheads.paths import Paths
from manyheads.preprocessing.labels import read_labels
from manyheads.preprocessing.rejects import JUNK, check_reject_share
from manyheads.runtime.printing import printable
from manyheads.runtime.progress import track

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Write the manifest and the rejected samples of the raw data.

    Args:
        config: The dataset, its path, and the heads whose labels are read.
        inputs: Where the raw data is found.
        outputs: Where the two tables go.

    Raises:
        ConfigError: The raw data has no label for a configured head.
        DataError: All samples, or too large a share of them, are rejected; nothing is written.
        IntegrityError: The archive is damaged or unsafe; nothing is written.
    """
    dataset, source = datasets.get(config.data.name, config.extensions), inputs.root / config.data.path
    if not source.exists():  # the stage source was not run
        dataset.provide(source, source)
    dataset = dataset.configured(config.inputs, config.data.columns)
    records = track(dataset.records(source), f"parsing {source.name}")
    manifest, rejects = read_labels(records, config.data.heads)
    accepted = len(manifest["path"])
    check_reject_share(config.data.path, accepted, rejects, config.data.max_reject_fraction)
    rows = ((printable(path), "parse", code, reason) for path, code, reason in rejects)
    tables.write_rejected(outputs.rejected, rows)
    dtypes = {column: head.label_dtype for name, head in config.data.heads.items() for column in head.label_columns}
    tables.write_table(outputs.manifest, pd.DataFrame(manifest).astype(dtypes))
    codes = Counter(reject.code for reject in rejects)
    junk = codes.pop(JUNK, 0)
    logger.info(
        "%s: %d samples accepted, %d of them with a note; %d rejected%s; %d junk files",
        config.data.path,
        accepted,
        sum(map(bool, manifest["note"])),
        codes.total(),
        "".join(f", {code} {count}" for code, count in sorted(codes.items())),
        junk,
    )
