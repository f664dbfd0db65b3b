"""Assignment of samples to train, validation and test: by duplicate group, at random, or by lists of names."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from manyheads.errors import DataError, IntegrityError
from manyheads.heads import Head

SUBSETS = ("train", "validation", "test")
EXCLUDED = "excluded"
CONFLICTING_LABELS = "conflicting_labels"
REVIEWED = "reviewed"
NOT_LISTED = "not_listed"

Names = npt.NDArray[np.str_]
Heads = Mapping[str, Head]


class Assignment(NamedTuple):
    """The subset of each sample, shape (n,), and the rule that excluded it, or ``""`` for a sample in a subset."""

    subset: Names
    rule: Names


def clean(samples: pd.DataFrame, heads: Heads, shares: Mapping[str, float], seed: int) -> Assignment:
    """Assign whole duplicate groups, stratified over all heads; exclude groups whose labels conflict.

    Conflicting labels of duplicates are excluded because the correct one is unknown, which makes them unsuitable for
    training and evaluation. Duplicates with equal labels stay in one subset.

    Args:
        samples: Samples with ``path``, ``group`` and a label column for each head.
        heads: The heads by name.
        shares: Share of each subset by name; they add up to 1.
        seed: Seed of the assignment.

    Raises:
        DataError: There are too few groups for the shares.
    """
    conflicting = conflicts(samples, heads)
    subset = np.full(len(samples), EXCLUDED, dtype=object)
    subset[~conflicting] = assign_groups(samples[~conflicting], heads, shares, seed)
    return Assignment(subset.astype(str), np.where(conflicting, CONFLICTING_LABELS, ""))


def random(samples: pd.DataFrame, shares: Mapping[str, float], seed: int) -> Assignment:
    """Assign single samples at random; duplicates may be in several subsets, and conflicting labels stay.

    A permutation is divided twice, each time rounded down: the first ``train + validation`` samples are the pool, and
    its first ``train / (train + validation)`` samples are the training subset. Shares of 0.49, 0.21 and 0.3 correspond
    to the article, which takes 70 % twice.

    Args:
        samples: Samples with ``path``.
        shares: Share of each subset by name; they add up to 1.
        seed: Seed of the permutation.
    """
    not_test = shares["train"] + shares["validation"]
    pool = int(len(samples) * not_test)
    train = int(pool * (shares["train"] / not_test)) if not_test else 0
    by_path = samples["path"].to_numpy(dtype=str).argsort()
    order = by_path[np.random.default_rng(seed).permutation(len(samples))]
    subset = np.empty(len(samples), dtype=object)
    subset[order[:train]] = "train"
    subset[order[train:pool]] = "validation"
    subset[order[pool:]] = "test"
    return Assignment(subset.astype(str), np.full(len(samples), ""))


def from_lists(
    samples: pd.DataFrame, heads: Heads, lists: Mapping[str, set[str]], validation: float, seed: int
) -> Assignment:
    """Assign samples by lists of file names, such as a published split; exclude samples that no list names.

    The lists are used unchanged: duplicates in several subsets and conflicting labels stay. Without a validation list,
    a share of the train list becomes the validation subset, by duplicate group and stratified over all heads.

    Args:
        samples: Samples with ``path``, ``group`` and a label column for each head.
        heads: The heads by name.
        lists: File names of each subset.
        validation: Share of the train list that becomes the validation subset if there is no validation list.
        seed: Seed of the choice of that share.

    Raises:
        DataError: No sample has a listed name, or there are too few groups for the share.
    """
    subset_of = {name: subset for subset, names in lists.items() for name in names}
    subset = samples["path"].map(lambda path: subset_of.get(_file_name(path), EXCLUDED)).to_numpy(dtype=object)
    if (subset == EXCLUDED).all():
        raise DataError(
            f"split.files: none of the {len(subset_of):,} listed names is in the data "
            f"(listed is {min(subset_of)!r}, the data has {min(map(_file_name, samples['path']))!r}): "
            "give lists of this dataset's file names"
        )
    pool = subset == "train"
    if "validation" not in lists and pool.any():
        shares = {"train": 1 - validation, "validation": validation}
        subset[pool] = assign_groups(samples[pool], heads, shares, seed)
    return Assignment(subset.astype(str), np.where(subset == EXCLUDED, NOT_LISTED, ""))


def without_reviewed(samples: pd.DataFrame, assignment: Assignment, reviewed: set[str]) -> Assignment:
    """Exclude samples that a person has reviewed; the subsets of all other samples do not change.

    Args:
        samples: Samples with ``path``.
        assignment: The assignment of all samples.
        reviewed: File names of the samples to exclude.
    """
    excluded = samples["path"].map(_file_name).isin(reviewed).to_numpy()
    return Assignment(np.where(excluded, EXCLUDED, assignment.subset), np.where(excluded, REVIEWED, assignment.rule))


def conflicts(samples: pd.DataFrame, heads: Heads) -> npt.NDArray[np.bool_]:
    """Return whether a sample's duplicate group has different labels for some head, shape (n,)."""
    columns = [column for name, head in heads.items() for column in head.label_columns]
    labels = samples.groupby("group")[columns].transform("nunique")
    return (labels > 1).any(axis=1).to_numpy(dtype=bool)


def assign_groups(samples: pd.DataFrame, heads: Heads, shares: Mapping[str, float], seed: int) -> Names:
    """Assign whole duplicate groups to subsets, stratified by their labels.

    Shares refer to groups. The labels of a group are those of its first path.

    Args:
        samples: Samples with ``path``, ``group`` and a label column for each head.
        heads: The heads by name.
        shares: Share of each subset by name; they add up to 1.
        seed: Seed of the assignment.

    Returns:
        The subset of each sample, shape (n,).

    Raises:
        DataError: A subset would get no group.
    """
    from sklearn.model_selection import train_test_split

    groups = samples.sort_values(["group", "path"]).drop_duplicates("group").set_index("group")
    # The smallest subset is sampled first, while rare strata are complete; the largest gets the rest.
    *sampled_subsets, largest = sorted(shares, key=lambda subset: shares[subset])
    sizes = {subset: round(len(groups) * shares[subset]) for subset in sampled_subsets}
    sizes[largest] = len(groups) - sum(sizes.values())
    for subset, size in sizes.items():
        if size < 1:
            raise DataError(
                f"split.{subset} gets none of {len(groups)} duplicate groups (share {shares[subset]:g}): "
                "raise its share or add samples"
            )
    stratum = strata(groups, heads, needed=math.ceil(1 / min(shares.values())))
    subset_of = pd.Series(largest, index=groups.index)
    rest = groups.index.to_numpy()
    for subset in sampled_subsets:
        rest, sampled = train_test_split(rest, test_size=sizes[subset], stratify=stratum[rest], random_state=seed)
        subset_of[sampled] = subset
    return samples["group"].map(subset_of).to_numpy(dtype=str)


def strata(groups: pd.DataFrame, heads: Heads, needed: int) -> pd.Series[int]:
    """Return the stratum of each group: the combination of all heads' strata, with rare combinations merged.

    A combination with fewer than ``needed`` groups cannot be in every subset. Rare combinations are first merged over
    the bins of the regression heads. Those that are still rare are merged over the classification with the fewest
    classes, and so on, so that the head with the most classes is kept longest. The remaining groups form one stratum,
    or join the largest stratum if they are too few.

    Args:
        groups: One row for each group, with a label column for each head.
        heads: The heads by name.
        needed: Smallest number of groups in a stratum, unless there are fewer groups in total.

    Returns:
        The number of each group's stratum, with the index of ``groups``.
    """
    cells = pd.DataFrame(
        {name: head.strata(head.labels_of(groups)) for name, head in heads.items()}, index=groups.index
    )
    kept = sorted(heads, key=lambda name: len(heads[name].class_names), reverse=True)
    stratum = pd.Series(-1, index=groups.index)
    while kept:
        rest = cells[stratum < 0].groupby(kept)
        large = rest[kept[0]].transform("size") >= needed
        stratum[large.index[large]] = rest.ngroup()[large] + stratum.max() + 1
        kept.pop()
    rare = stratum < 0
    if 0 < rare.sum() < min(needed, len(rare)):
        stratum[rare] = stratum[~rare].mode()[0]
    return stratum


def read_lists(root: Path, paths: Mapping[Any, str]) -> dict[str, set[str]]:
    """Read the file names of each subset.

    Args:
        root: The folder of relative paths.
        paths: A file of names for each subset, ``split.files``.

    Raises:
        DataError: A file is missing, unreadable or without names, or a name is in two subsets.
    """
    lists = {subset: read_list(root / path, subset) for subset, path in paths.items()}
    subset_of: dict[str, str] = {}
    for subset, names in lists.items():
        if twice := sorted(names & subset_of.keys()):
            first, other = twice[0], subset_of[twice[0]]
            raise DataError(
                f"split.files: {len(twice)} names are in two subsets, the first is {first!r} in "
                f"{paths[other]} ({other}) and {paths[subset]} ({subset}): keep each in one"
            )
        subset_of |= dict.fromkeys(names, subset)
    return lists


def read_list(path: Path, subset: str) -> set[str]:
    """Read the file names of one subset from a list.

    Args:
        path: A CSV with a column ``file`` or ``path``, or a text file with one name per line. If the CSV has a column
            ``subset``, only the rows of this subset count. Folders before a name are ignored.
        subset: Name of the subset.

    Raises:
        DataError: The file is missing, unreadable or without names of this subset.
    """
    key = f"split.files.{subset}"
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(io.StringIO(text), skipinitialspace=True)
        header = [column.strip() for column in reader.fieldnames or ()]
        reader.fieldnames = header
        column = next((name for name in ("file", "path") if name in header), None)
        if column:
            names = [row[column] or "" for row in reader if row.get("subset", subset) == subset]
        elif header and path.suffix.lower() == ".csv":
            raise DataError(f"{key}: {path} has no column 'file' or 'path' ({', '.join(header)[:80]}): rename one")
        else:
            names = text.split("\n")
    except FileNotFoundError:
        raise DataError(f"{key}: {path} is missing: paths are relative to the project's root") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{key}: {path} cannot be read as UTF-8 ({error}): give a CSV or one name per line") from None
    found = {_file_name(name.strip()) for name in names} - {""}
    if not found:
        raise DataError(f"{key}: {path} names no {subset} samples: give a CSV or a text file with one name per line")
    return found


def missing_names(samples: pd.DataFrame, lists: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Return the listed file names of each subset that no sample has, sorted."""
    known = set(map(_file_name, samples["path"]))
    return {subset: sorted(names - known) for subset, names in lists.items()}


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def check_rows(samples: pd.DataFrame, splits: pd.DataFrame) -> None:
    """Check that every sample either has a subset or is excluded by a named rule.

    Raises:
        IntegrityError: The numbers of assigned and excluded samples do not add up to all samples.
    """
    in_a_subset = splits["subset"].isin(SUBSETS) & (splits["rule"] == "")
    left_out = (splits["subset"] == EXCLUDED) & (splits["rule"] != "")
    n_in_subsets, n_left_out = int(in_a_subset.sum()), int(left_out.sum())
    if list(samples["path"]) != list(splits["path"]) or n_in_subsets + n_left_out != len(samples):
        raise IntegrityError(
            f"split: {len(samples)} samples in, but {n_in_subsets} in subsets and {n_left_out} left out by a rule"
        )


def check_duplicates(splits: pd.DataFrame) -> None:
    """Check that no content and no duplicate group is in two subsets.

    Raises:
        IntegrityError: A content or a group is in two subsets.
    """
    in_subsets = splits[splits["subset"].isin(SUBSETS)]
    for column in ("sha256", "group"):
        subsets = in_subsets.groupby(column)["subset"].nunique()
        if crossing := list(subsets.index[subsets > 1]):
            raise IntegrityError(
                f"{len(crossing)} values of {column} are in two subsets, the first is {crossing[0]}: "
                "make the samples again with `python -m manyheads pack` or `dvc repro pack`"
            )


def check_subsets(samples: pd.DataFrame, heads: Heads, subset: Names) -> list[str]:
    """Check that each subset has samples, and report missing classes.

    Args:
        samples: Samples with a label column for each head.
        heads: The heads by name.
        subset: The subset of each sample, shape (n,).

    Returns:
        A message for each class of a head that a subset lacks.

    Raises:
        DataError: A subset is empty.
    """
    classes = [
        (head_name, label, class_name)
        for head_name, head in heads.items()
        for label, class_name in enumerate(head.class_names)
    ]
    messages = []
    for name in SUBSETS:
        if not (subset == name).any():
            raise DataError(
                f"split: the {name} subset is empty: raise split.{name}, add samples, or correct its list of names"
            )
        for head_name, label, class_name in classes:
            labelled = heads[head_name].labels_of(samples) == label
            if not (labelled & (subset == name)).any():
                assigned = samples[labelled & (subset != EXCLUDED)]
                messages.append(
                    f"data.heads.{head_name}: class {class_name!r} has 0 samples in the {name} subset and "
                    f"{len(assigned)} in all subsets: {_remedy(assigned, name, int(labelled.sum()))}"
                )
    return messages


def _remedy(assigned: pd.DataFrame, subset: str, labelled: int) -> str:
    """Return why a subset may lack a class, and what helps.

    Args:
        assigned: The samples of the class in all subsets.
        subset: The subset that lacks them.
        labelled: Number of samples of the class, excluded ones included.
    """
    further = (
        f"{labelled - len(assigned)} are excluded, such as by conflicting labels of duplicates; "
        if labelled > len(assigned)
        else ""
    )
    sizes = assigned["group"].value_counts()
    if sizes.size < min(len(SUBSETS), len(assigned)):
        group = sizes.index[0]
        path = assigned.loc[assigned["group"] == group, "path"].min()
        return (
            f"{further}they are {sizes.size} duplicate {'group' if sizes.size == 1 else 'groups'}, the largest is "
            f"{group} with {sizes.iloc[0]} samples such as {path}, and duplicates stay in one subset; add samples that "
            "differ, or drop the class and these samples"
        )
    return f"{further}add samples of it, raise split.{subset}, choose another seed, or drop the class"
