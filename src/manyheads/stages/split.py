"""Split: assign the samples to train, validation and test, once, before anything is trained.

Reads the packed samples and, with ``split.method: listed``, files of names. Writes ``data/splits.csv``, one row a
sample, and ``reports/split.json``, the counts. The table can be published, because it has paths, hashes and subsets but
no inputs. It fixes the data that models are selected and tested on.

The subsets depend on the samples, the shares and the seed alone, because samples are sorted before a random choice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from manyheads.config.schema import Config
from manyheads.data import tables
from manyheads.errors import DataError
from manyheads.paths import Paths
from manyheads.preprocessing.split_counts import count_split
from manyheads.preprocessing.splitting import (
    REVIEWED,
    SUBSETS,
    check_duplicates,
    check_rows,
    check_subsets,
    clean,
    from_lists,
    limited,
    missing_names,
    random,
    read_list,
    read_lists,
    without_reviewed,
)
from manyheads.runtime import files

logger = logging.getLogger(__name__)


def run(config: Config, inputs: Paths, outputs: Paths) -> None:
    """Assign the samples and write the subsets and their counts.

    Raises:
        DataError: A subset or a class in it is empty, or a file of names cannot be used.
        IntegrityError: The samples are damaged, or a duplicate is in two subsets of a clean split.
    """
    heads = config.data.heads
    samples = tables.read_samples(inputs.samples, heads).sort_values("path", ignore_index=True)
    missing: dict[str, list[str]] = {}
    shares = {"train": config.split.train, "validation": config.split.validation, "test": config.split.test}
    if config.split.method == "clean":
        assignment = clean(samples, heads, shares, config.split.seed)
    elif config.split.method == "random":
        assignment = random(samples, shares, config.split.seed)
    else:
        lists = read_lists(
            inputs.root, {subset: path for subset, path in config.split.files.items() if subset != REVIEWED}
        )
        missing = missing_names(samples, lists)
        assignment = from_lists(samples, heads, lists, config.split.validation, config.split.seed)
    if REVIEWED in config.split.files:
        reviewed = read_list(inputs.root / config.split.files[REVIEWED], REVIEWED)
        missing |= missing_names(samples, {REVIEWED: reviewed})
        assignment = without_reviewed(samples, assignment, reviewed)
    if config.split.limit is not None:
        assignment = limited(samples, heads, assignment, config.split.limit, config.split.seed)
    splits = samples[["path", "sha256", "group"]].assign(subset=assignment.subset, rule=assignment.rule)

    check_rows(samples, splits)
    if config.split.method == "clean":
        check_duplicates(splits)
    empty_classes = check_subsets(samples, heads, assignment.subset)
    if config.split.limit is not None:
        # Rare classes are left out by the limit, not by the data.
        logger.info("split.limit leaves %d classes out of a subset", len(empty_classes))
    elif empty_classes and config.split.method != "listed":
        raise DataError(empty_classes[0])
    else:
        for message in empty_classes:
            logger.warning("%s", message)

    counts = count_split(samples, heads, splits, missing)
    tables.write_table(outputs.splits, splits)
    files.write_text(outputs.split_counts, json.dumps(counts, indent=2, ensure_ascii=False) + "\n")
    _log(counts, missing)


def _log(counts: dict[str, Any], missing: Mapping[str, list[str]]) -> None:
    for subset in SUBSETS:
        logger.info("%s: %d samples in %d groups", subset, counts["samples"][subset], counts["groups"][subset])
    for rule, excluded in counts["excluded"].items():
        logger.info("excluded: %d samples by rule %s", excluded, rule)
    for subset, names in missing.items():
        if names:
            logger.warning("%d names of the %s list are not in the data: %s", len(names), subset, ", ".join(names[:3]))
    if counts["leaked"]["group"]:
        logger.warning(
            "%d test samples have a duplicate in train or validation, %d of them byte for byte",
            counts["leaked"]["group"],
            counts["leaked"]["sha256"],
        )
