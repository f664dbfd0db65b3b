"""Which columns of a table are heads, which are inputs, and which are neither."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Sequence

import numpy as np
import pandas as pd

from manyheads.datasets import table
from manyheads.errors import ConfigError, DataError
from manyheads.guessing import settings
from manyheads.guessing.columns import Column, examine, identifier, shortened
from manyheads.guessing.proposals import Finding, Part, Proposal
from manyheads.preprocessing.labels import MISSING_WORDS

# Names of columns that exist to be predicted, and names that usually are; the first group that occurs counts.
_TARGETS = (
    re.compile(r"(label|target|class|outcome|output|response)s?(_\w+)?|(\w+_)?(label|target|class)", re.ASCII),
    re.compile(r"y_?\d*", re.ASCII),
    re.compile(
        "quality|price|sale_price|selling_price|median_house_value|medv|income|survived|species|diagnosis|churn|churned|"
        "exited|default|fraud|is_fraud|sentiment|score|rating|grade|salary|cost|charges|strength|mpg|category|status|"
        "attrition|sales|revenue|risk|result|variety|approved|subscribed|purchased"
    ),
)
_NAMES_OF_CLASSES = re.compile(
    r"(.*_)?(label|class|target|category|type|kind|group|cluster|species|race|gender|sex|ethnicity|digit|colou?r|code|y)"
)
_NAMES_OF_AMOUNTS = re.compile(
    r"(.*_)?(quality|rating|score|stars|grade|points|age|count|number|n|rank|level|size|years?|days?|price|amount)"
)
MOST_HEAD_CLASSES = 20
"""With more, a column becomes a head only if the user names it."""

WORDS_OF_A_CONTENT = 6
"""Mean number of words from which a text is something to learn from, rather than a name."""

FEWEST_SAMPLES_OF_A_CLASS = 10
"""Smallest number of samples of which each of the subsets gets one; see ``splitting.strata``."""

FEWEST_SAMPLES = 20
"""Smallest number of samples that can be divided into training, validation and test at all."""

MOST_MISSING = 0.1
"""Largest share of rows that empty cells of inputs may cost; columns with more of them are left out."""

# Columns of the tables between stages, and names that Keras gives to layers of the network.
_TAKEN = frozenset(
    {"path", "group", "error", "row", "sha256", "note", "subset", "rule", "joined", "dense", "dropout", "pooled"}
)


def path_of(cell: str) -> str:
    """Return the path that a cell names, as the dataset reads it."""
    return table.normal_path(cell)


def examine_table(frame: pd.DataFrame, is_image: Callable[[str], bool]) -> list[Column]:
    """Return what each column of a table holds; see ``columns.examine``."""
    return [examine(str(name), frame[name], is_image) for name in frame]


def propose(
    columns: Sequence[Column],
    rows: int,
    heads: Sequence[str] | None = None,
    inputs: Sequence[str] | None = None,
) -> Proposal:
    """Return heads and inputs for the columns of a table.

    Args:
        columns: The columns.
        rows: Number of rows.
        heads: Columns that the user wants as heads; None to guess.
        inputs: Columns that the user wants as inputs; None for all that are no heads and hold something.

    Raises:
        ConfigError: A named column does not exist.
        DataError: There is no possible head or no possible input, or too few rows.
    """
    if rows < FEWEST_SAMPLES:
        raise DataError(f"the table has {rows} rows: three subsets need at least {FEWEST_SAMPLES}")
    by_name = {column.name: column for column in columns}
    wanted_heads = None if heads is None else _resolved(heads, by_name, "--heads")
    wanted_inputs = None if inputs is None else _resolved(inputs, by_name, "--inputs")
    if both := set(wanted_heads or ()) & set(wanted_inputs or ()):
        raise ConfigError(f"{min(both)} is in --heads and in --inputs: a column is one of them")
    doubts: list[str] = []
    named = set(wanted_inputs or ())
    chosen = wanted_heads if wanted_heads is not None else _guessed_heads(columns, named, doubts)
    head_columns = [by_name[name] for name in chosen]
    rest = [column for column in columns if column.name not in chosen]
    if wanted_inputs is not None:
        rest = [column for column in rest if column.name in named]
    else:
        rest = [column for column in rest if not column.is_useless]

    names = _Names()
    proposal = Proposal("table", f"a table of {rows:,} rows and {len(columns)} columns", rows, {}, {}, doubts=doubts)
    becomes: dict[str, str] = {}
    for column in head_columns:
        part = head_of(column, doubts, named=wanted_heads is not None)
        proposal.heads[names.new(column.name)] = part
        becomes[column.name] = f"head, {part.settings['kind']}"
    rest = _without_many_empty(rest, rows, named, doubts, becomes)
    _add_inputs(proposal, rest, names, becomes)
    if not proposal.heads:
        raise DataError(
            "no column can be a head: a head needs a column of numbers, or of at most "
            f"{MOST_HEAD_CLASSES} classes with {FEWEST_SAMPLES_OF_A_CLASS} rows each; name one with --heads"
        )
    if not proposal.inputs:
        raise DataError(
            f"no column is left as input: {', '.join(chosen)} would be predicted from nothing; add a column of "
            "numbers, texts or paths of images, or name fewer --heads"
        )
    for column in columns:
        said = becomes.get(column.name) or _ignored(column, wanted_inputs is not None)
        proposal.findings.append(Finding(column.name, said, column.evidence()))
        if column.remark:
            doubts.append(f"{column.name}: {column.remark}")
    return proposal


class _Names:
    """Names for the configuration, each of them once."""

    def __init__(self) -> None:
        self._given: set[str] = set(_TAKEN)

    def new(self, column: str) -> str:
        """Return an identifier for a column that nothing else has."""
        plain = identifier(column, "column")
        found = plain
        number = 2
        while found in self._given:
            found, number = f"{plain}_{number}", number + 1
        self._given.add(found)
        return found


def _resolved(given: Sequence[str], columns: Collection[str], option: str) -> list[str]:
    by_identifier = {identifier(name, ""): name for name in columns}
    found = []
    for name in given:
        match = name if name in columns else by_identifier.get(identifier(name, ""))
        if match is None:
            raise ConfigError(f"{option}: there is no column {name!r}; the columns are {', '.join(columns)}")
        if match not in found:
            found.append(match)
    return found


def _guessed_heads(columns: Sequence[Column], inputs: Collection[str], doubts: list[str]) -> list[str]:
    """Return the columns that are probably there to be predicted.

    Beside images or longer texts these are all numbers and classes. In a table of numbers they are the columns with a
    name such as ``label`` or ``quality``, with the columns of classes that follow at the end of the table; without such
    a name, the columns of classes at the end, or the last column.
    """
    free = [column for column in columns if column.name not in inputs]
    possible = [column for column in free if _can_be_head(column)]
    matching = ([column for column in possible if each.fullmatch(identifier(column.name, ""))] for each in _TARGETS)
    by_name = next(filter(None, matching), [])
    content = [column for column in columns if _is_content(column)]
    if content and len(possible) > 1:
        shown = ", ".join(column.name for column in content)
        alone = shlex.quote(",".join(column.name for column in by_name or possible[:1]))
        doubts.append(
            f"all numbers and classes are heads, because {shown} can be learned from; --heads {alone} makes the others "
            "inputs"
        )
    if content:
        return [column.name for column in possible]
    useful = [column for column in free if not column.is_useless]
    if not possible or len(useful) < 2:
        return [column.name for column in possible]
    last = useful.index(by_name[-1]) + 1 if by_name else 0
    ending: list[Column] = []
    for column in reversed(useful[last:]):
        if not (_can_be_head(column) and column.content == "classes"):
            break
        ending.insert(0, column)
    if by_name:
        found = by_name + (ending if last + len(ending) == len(useful) else [])
        reason = "their names" if len(found) > 1 else "its name"
    elif ending and len(ending) < len(useful):
        found, reason = ending, "the classes at the end of the table"
    else:
        found = [column for column in useful if _can_be_head(column)][-1:]
        reason = "its place at the end" if found and found[0] is useful[-1] else "nothing but its form"
    names = [column.name for column in found]
    doubts.append(
        f"{', '.join(names)} {'are heads' if len(names) > 1 else 'is the head'} because of {reason}; --heads chooses"
    )
    return names


def _is_content(column: Column) -> bool:
    long = column.content == "text" and column.words >= WORDS_OF_A_CONTENT
    return column.content in ("images", "token ids") or long


def _can_be_head(column: Column) -> bool:
    if column.content == "numbers":
        return True
    return column.content == "classes" and len(column.counts) <= MOST_HEAD_CLASSES and len(_common(column)) >= 2


def _common(column: Column) -> list[str]:
    """Return the values that are frequent enough for a class, without those that mean a missing label."""
    frequent = column.counts.index[column.counts >= FEWEST_SAMPLES_OF_A_CLASS]
    # "none" may well be a class.
    no_class = set(MISSING_WORDS) - {"none"}
    return [name for name in map(str, frequent) if name.casefold() not in no_class and name.isprintable()]


def head_of(column: Column, doubts: list[str], *, named: bool) -> Part:
    """Return the head that learns a column.

    Args:
        column: The column.
        doubts: Gets what is unsure.
        named: Whether the user has named the column as a head.

    Raises:
        DataError: The column cannot be learned.
    """
    if column.content in ("nothing", "one value"):
        raise DataError(f"{column.name} cannot be a head: it holds {column.content}")
    is_number = len(column.numbers) > 0
    if is_number and not _numbers_are_classes(column, doubts):
        part = settings.regression(column)
        return Part(part, (column.name,), _comment(column, part))
    names = _common(column)
    if rare := _rare_classes(column, names):
        doubts.append(
            f"{column.name}: {rare} occur in fewer than {FEWEST_SAMPLES_OF_A_CLASS} rows, too few for three subsets, "
            "and these rows are rejected; give them another class in the table, or add rows"
        )
    if len(names) < 2 or (not is_number and len(names) > MOST_HEAD_CLASSES and not named):
        raise DataError(
            f"{column.name} cannot be a head: {len(names)} of its {len(column.counts)} values occur in at least "
            f"{FEWEST_SAMPLES_OF_A_CLASS} rows, and a head needs two such classes"
        )
    return Part(settings.classes(names), (column.name,))


def _comment(column: Column, part: dict[str, object]) -> str:
    unit = " Fill in the unit, in the plural." if part["unit"] == settings.UNKNOWN_UNIT else ""
    low, high = column.numbers.min(), column.numbers.max()
    return f"{low:g} to {high:g} in the data; a label outside of the bounds is rejected.{unit}"


def _numbers_are_classes(column: Column, doubts: list[str]) -> bool:
    distinct, name = len(column.counts), identifier(column.name, "")
    if not column.is_whole or distinct > MOST_HEAD_CLASSES or len(_common(column)) < 2:
        return False
    if distinct == 2:
        return True
    values = np.unique(column.numbers)
    from_zero = values[0] == 0 and values[-1] == distinct - 1
    classes = bool(_NAMES_OF_CLASSES.fullmatch(name)) or (from_zero and not _NAMES_OF_AMOUNTS.fullmatch(name))
    if classes:
        doubts.append(
            f"{column.name}: {distinct} whole numbers, taken for classes; if they are amounts, "
            "write kind: regression with minimum and maximum"
        )
    elif distinct <= 10:
        doubts.append(
            f"{column.name}: {distinct} whole numbers, taken for amounts; if they are classes, "
            "write kind: categorical with classes"
        )
    return classes


def _without_many_empty(
    columns: Sequence[Column], rows: int, named: Collection[str], doubts: list[str], becomes: dict[str, str]
) -> list[Column]:
    """Return the columns without those whose empty cells would cost too many rows."""
    kept = list(columns)
    while kept:
        lost = np.logical_or.reduce([column.empty for column in kept])
        loose = [column for column in kept if column.name not in named and column.empty.any()]
        if lost.sum() <= MOST_MISSING * rows or not loose:
            break
        worst = max(loose, key=lambda column: int(column.empty.sum()))
        kept.remove(worst)
        becomes[worst.name] = "ignored, many empty cells"
        doubts.append(
            f"{worst.name} is left out: {int(worst.empty.sum()):,} cells are empty, and a row without an input cannot "
            "be used; fill them in to use it"
        )
    return kept


def _add_inputs(proposal: Proposal, columns: Sequence[Column], names: _Names, becomes: dict[str, str]) -> None:
    numbers = [
        column
        for column in columns
        if column.content in ("numbers", "dates", "identifiers", "row numbers") and len(column.numbers)
    ]
    for column in columns:
        if column in numbers:
            continue
        if column.content == "images":
            part, kind = Part({"kind": "image"}, (column.name,)), "image"
        elif column.content == "rows of numbers":
            width = len(column.cells.iloc[0].split())
            part, kind = Part({"kind": "numbers", "width": width}, (column.name,)), "numbers"
        else:
            part, kind = Part(settings.text(column), (column.name,)), "text"
        proposal.inputs[names.new(column.name)] = part
        becomes[column.name] = f"input, {kind}"
    if len(numbers) == 1:
        (column,) = numbers
        name = names.new(column.name)
        proposal.inputs[name] = Part({"kind": "numbers", "width": 1}, (column.name,))
        becomes[column.name] = "input, numbers"
    elif numbers:
        name = names.new("features")
        part = Part({"kind": "numbers", "width": len(numbers)}, tuple(column.name for column in numbers))
        proposal.inputs[name] = part
        becomes |= {column.name: f"input, one of {name}" for column in numbers}


def _ignored(column: Column, not_named: bool) -> str:
    if column.is_useless:
        return f"ignored, {column.content}"
    return "ignored, not in --inputs" if not_named else "ignored"


def _rare_classes(column: Column, common: Collection[str]) -> str:
    """Return the values that are too rare for a class, as text; empty if there are none."""
    rare = [(str(name), count) for name, count in column.counts.items() if str(name) not in common]
    rare = [(name, count) for name, count in rare if name.casefold() not in MISSING_WORDS]
    listed = ", ".join(f"{shortened(name)} ({count})" for name, count in rare[:3])
    return listed + (f" and {len(rare) - 3} more" if len(rare) > 3 else "")
