"""Pack: decode every input of every sample once, into arrays that training maps into memory.

Reads ``data/manifest.csv`` and the raw data; writes the folder ``data/packed``: for each input an array such as
``image.npy`` with one row for each row of the manifest, ``samples.csv`` with labels, content hash and duplicate group
of each sample, ``properties.csv`` with what the arrays do not tell of the samples, such as the size of an image, and
``rejected.csv`` with the samples that could not be read. No later stage opens the raw data.
"""

from __future__ import annotations

import logging
import time
from collections import Counter

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.data import tables
from manyheads.errors import IntegrityError
from manyheads.paths import Paths
from manyheads.preprocessing.packing import (
    encode_manifest,
    find_duplicates,
    join_inputs,
    property_table,
    sample_table,
)
from manyheads.preprocessing.rejects import Reject, check_reject_share, counts_text
from manyheads.runtime.files import atomic_write

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Encode the manifest's samples and write ``data/packed`` in an atomic write.

    Raises:
        DataError: All samples, or too large a share of them, cannot be read.
        IntegrityError: The raw data lacks a sample of the manifest.
        MachineError: The folder cannot be written.
    """
    manifest = tables.read_manifest(inputs.manifest, config.data.heads)
    source = inputs.root / config.data.path
    dataset = datasets.get(config.data.name, config.extensions).configured(config.inputs, config.data.columns)
    with atomic_write(outputs.samples.parent) as folder:
        folder.mkdir()
        began = time.monotonic()
        by_input = {
            name: encode_manifest(
                manifest,
                dataset.contents(source, [name]),
                name,
                kind,
                folder / outputs.packed(name).name,
                source,
            )
            for name, kind in config.inputs.items()
        }
        packed, refused = join_inputs(list(by_input.values()))
        seconds = time.monotonic() - began
        rejects = [Reject(manifest["path"].iloc[row], code, reason) for row, code, reason in refused]
        check_reject_share(config.data.path, len(packed), rejects, config.data.max_reject_fraction)
        duplicates = find_duplicates(packed, list(config.inputs.values()))
        samples = sample_table(manifest, packed, duplicates)
        if len(samples) + len(rejects) != len(manifest):
            raise IntegrityError(
                f"{inputs.manifest} has {len(manifest)} rows, but {len(samples)} were packed and "
                f"{len(rejects)} rejected: this is a bug of pack, please report it"
            )
        tables.write_table(folder / outputs.samples.name, samples)
        tables.write_table(folder / outputs.properties.name, property_table(by_input, packed))
        tables.write_rejected(
            folder / outputs.undecodable.name, [(path, "pack", code, reason) for path, code, reason in rejects]
        )
    logger.info(
        "packed %d samples, %s (%.0f a second), converted: %s; rejected: %s",
        len(samples),
        ", ".join(f"{name} {' x '.join(map(str, kind.shape))}" for name, kind in config.inputs.items()),
        len(manifest) / seconds,
        counts_text(Counter(sample.note for sample in packed if sample.note)),
        counts_text(Counter(reject.code for reject in rejects)),
    )
    logger.info(
        "%d duplicate groups: %d contents occur more than once, %d pairs of contents are near duplicates",
        len(set(duplicates.groups)),
        duplicates.identical_groups,
        duplicates.near_duplicate_pairs,
    )
