"""A rehearsal of parse, pack and split: what would be rejected, and which classes a subset would lack."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from manyheads import datasets
from manyheads.config.schema import Config
from manyheads.errors import DataError, Unreadable
from manyheads.guessing.proposals import Proposal
from manyheads.preprocessing.labels import read_labels
from manyheads.preprocessing.rejects import JUNK, Reject
from manyheads.preprocessing.splitting import SUBSETS, clean, conflicts, random
from manyheads.runtime.progress import track

LARGEST = 2 * 2**30
"""Number of bytes of images that are read to find equal ones; of more, none are."""

MOST_CONFLICTING = 0.02
"""Share of samples with equal inputs and different labels from which these are no duplicates."""

MOST_REJECTED = 0.5
"""Share of rejected samples from which a proposal is none."""


class Rehearsal(NamedTuple):
    """What the first stages would do.

    Attributes:
        accepted: Number of samples that parse would accept.
        rejects: The samples that parse would reject, without junk.
        unreadable: The samples that pack would reject because an input that is no file cannot be read.
        absent: Classes of each head that a subset would lack.
        conflicting: Share of the samples with equal cells as inputs and different labels.
        copies: Number of samples whose inputs equal those of an earlier sample.
    """

    accepted: int
    rejects: list[Reject]
    unreadable: list[Reject]
    absent: dict[str, list[str]]
    conflicting: float
    copies: int


class Read(NamedTuple):
    """The inputs of all samples: a digest of each by its path, and the samples that pack would reject."""

    digests: Mapping[str, str]
    unreadable: Mapping[str, Reject]


def read_inputs(config: Config, source: Path) -> Read:
    """Read the inputs that are cells of a table as pack does, and compare files by their bytes.

    Args:
        config: The proposed configuration.
        source: The data.
    """
    dataset = datasets.get(config.data.name).configured(config.inputs, config.data.columns)
    cells = [name for name, kind in config.inputs.items() if not kind.FILE_SUFFIXES]
    files = [name for name, kind in config.inputs.items() if kind.FILE_SUFFIXES]
    hashes: dict[str, Any] = {}
    unreadable: dict[str, Reject] = {}
    for path, contents in track(dataset.contents(source, cells), "reading cells") if cells else ():
        if isinstance(contents, OSError):
            continue
        for name in cells:
            hashes.setdefault(path, hashlib.sha256()).update(contents[name] + b"\0")
            try:
                config.inputs[name].encode(contents[name])
            except Unreadable as refusal:
                unreadable.setdefault(path, Reject(path, refusal.code, f"{name}: {refusal.reason}"))
    for name in files if _size(source) <= LARGEST else ():
        for path, contents in track(dataset.contents(source, [name]), f"comparing {name}"):
            if not isinstance(contents, OSError):
                hashes.setdefault(path, hashlib.sha256()).update(hashlib.sha256(contents[name]).digest())
    return Read({path: digest.hexdigest() for path, digest in hashes.items()}, unreadable)


def rehearse(config: Config, source: Path, read: Read) -> Rehearsal:
    """Return what parse, pack and split would do, without writing anything.

    Args:
        config: The proposed configuration.
        source: The data.
        read: Its inputs, from ``read_inputs``.

    Raises:
        DataError: Nothing would be accepted, or the samples are too few to be split.
    """
    dataset = datasets.get(config.data.name).configured(config.inputs, config.data.columns)
    heads = config.data.heads
    labelled = read_labels(dataset.records(source), heads)
    rejects = [reject for reject in labelled.rejects if reject.code != JUNK]
    dtypes = {column: head.label_dtype for head in heads.values() for column in head.label_columns}
    samples = pd.DataFrame(labelled.manifest).astype(dtypes)
    unreadable = [read.unreadable[path] for path in samples["path"] if path in read.unreadable]
    samples = samples[~samples["path"].isin(read.unreadable)].reset_index(drop=True)
    if samples.empty:
        found = rejects + unreadable
        reason = f"; the first: {found[0].reason}" if found else ""
        raise DataError(f"{source} has no sample that can be used: all {len(found)} would be rejected{reason}")
    samples["group"] = [read.digests.get(path, path) for path in samples["path"]]
    conflicting = float(conflicts(samples, heads).mean())
    if any(kind.FILE_SUFFIXES for kind in config.inputs.values()):
        conflicting = 0.0  # equal files are copies
    # With many, the proposal gets another split.
    absent = _absent(samples, config) if conflicting <= MOST_CONFLICTING or config.split.method == "random" else {}
    return Rehearsal(
        accepted=len(samples),
        rejects=rejects,
        unreadable=unreadable,
        absent=absent,
        conflicting=conflicting,
        copies=len(samples) - samples["group"].nunique(),
    )


def _absent(samples: pd.DataFrame, config: Config) -> dict[str, list[str]]:
    """Return the classes of each head that a subset would lack."""
    heads, split = config.data.heads, config.split
    shares = {"train": split.train, "validation": split.validation, "test": split.test}
    assignment = (
        random(samples, shares, split.seed) if split.method == "random" else clean(samples, heads, shares, split.seed)
    )
    absent: dict[str, list[str]] = {}
    for name, head in heads.items():
        labels = head.labels_of(samples)
        for label, text in enumerate(head.class_names):
            if not all(((labels == label) & (assignment.subset == subset)).any() for subset in SUBSETS):
                absent.setdefault(name, []).append(text)
    return absent


def amend(proposal: Proposal, rehearsal: Rehearsal) -> bool:
    """Change a proposal so that the first stages accept it; return whether it was changed.

    A class that a subset would lack is left out. Where equal cells have different labels, as few discrete numbers have,
    they are no duplicates, and the split is random.

    Args:
        proposal: The proposal, which is changed.
        rehearsal: What would happen with it.

    Raises:
        DataError: No head is left, or most samples would be rejected.
    """
    before = (proposal.split, proposal.max_reject_fraction)
    for name, lacking in rehearsal.absent.items():
        _leave_out(proposal, name, lacking)
    if proposal.split == "clean" and rehearsal.conflicting > MOST_CONFLICTING:
        share = f"{rehearsal.conflicting:.0%} of the samples have the inputs of another and a different label"
        proposal.split = "random"
        proposal.split_comment = f"{share}: they are no duplicates, which split=clean would exclude."
        proposal.doubts.append(
            f"{share}, so the split is random; if they are copies with wrong labels, write split: clean"
        )
    rejected = len(rehearsal.rejects)
    shares = (
        rejected / (rejected + rehearsal.accepted + len(rehearsal.unreadable)),
        len(rehearsal.unreadable) / (rehearsal.accepted + len(rehearsal.unreadable)),
    )
    if max(shares) > MOST_REJECTED:
        found = "; ".join(counts_by_code(rehearsal.rejects + rehearsal.unreadable))
        raise DataError(f"most samples would be rejected: {found}")
    if max(shares) > proposal.max_reject_fraction:
        proposal.max_reject_fraction = math.ceil(max(shares) * 100) / 100
    return bool(rehearsal.absent) or before != (proposal.split, proposal.max_reject_fraction)


def _leave_out(proposal: Proposal, name: str, lacking: list[str]) -> None:
    head = proposal.heads[name]
    left = [each for each in head.settings["classes"] if each not in lacking]
    listed = ", ".join(lacking)
    if len(left) < 2:
        dependent = [other for other, part in proposal.heads.items() if part.settings.get("of") == name]
        for each in (name, *dependent):
            del proposal.heads[each]
        if not proposal.heads:
            raise DataError(
                f"{name} cannot be a head: of its classes, {listed} would be missing in a subset of the split (a class "
                "needs about ten different samples); add samples"
            )
        proposal.doubts.append(f"{name} is no head: too few different samples of {listed} for each subset")
        return
    proposal.heads[name] = head._replace(settings={**head.settings, "classes": left})
    proposal.doubts.append(
        f"{name}: too few different samples of {listed} for each subset, so these are rejected; add samples, or give "
        "them another class in the data and in the file"
    )


def _size(source: Path) -> int:
    files = source.rglob("*") if source.is_dir() else [source]
    return sum(file.stat().st_size for file in files if file.is_file())


def counts_by_code(rejects: list[Reject]) -> Iterator[str]:
    """Yield a line for each code of rejected samples: their number and an example."""
    for code, count in Counter(reject.code for reject in rejects).most_common():
        example = next(reject for reject in rejects if reject.code == code)
        yield f"{count:,} {code}, such as {example.path}: {example.reason}"
