"""Decoding of new samples for a model, in one process a core, with the crops of faces if asked."""

from __future__ import annotations

import functools
import math
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing

import numpy as np

from manyheads.errors import ConfigError
from manyheads.modeling.saving import ModelCard
from manyheads.prediction.tables import PLACE, Place, Row
from manyheads.preprocessing.decoding import CHUNK, Raw, Refused, Sample, decode, in_processes
from manyheads.runtime.hardware import available_cores

PICTURES_AT_ONCE = 4
"""Number of pictures that a process searches for faces at a time; one of 50 megapixels takes seconds."""

BYTES_AHEAD = 128 * 2**20
"""Number of bytes of decoded samples that may wait for the model. While TensorFlow loads, they are decoded."""

CHUNK_BYTES = 16 * 2**20
"""Largest number of bytes of decoded samples that a process hands over at once."""

BYTES_OF_OBJECTS = 4096
"""Number of bytes of a sample beside its values, roughly."""

Placed = list[tuple[Place, Sample | Refused]]


def require_known_crops(card: ModelCard) -> None:
    """Raise an error if faces cannot be cropped as the training data of a model is.

    Raises:
        ConfigError: The model takes more than a picture, or the crops of its dataset are not known.
    """
    from manyheads.prediction.face_crops import CALIBRATIONS

    if len(card.inputs) > 1:
        raise ConfigError(f"--find-faces takes a model of one picture; this one takes {', '.join(card.inputs)}")
    if card.data not in CALIBRATIONS:
        raise ConfigError(
            f"--find-faces crops faces as {', '.join(CALIBRATIONS)} does; this model was trained on {card.data!r}, "
            "whose crops are not known: leave the option out"
        )


def bytes_of_sample(card: ModelCard) -> int:
    """Return the number of bytes that a decoded sample takes in memory."""
    return BYTES_OF_OBJECTS + sum(
        math.prod(kind.shape) * np.dtype(kind.dtype).itemsize for kind in card.inputs.values()
    )


def decoded(
    card: ModelCard, members: Iterable[tuple[str, Mapping[str, bytes] | OSError]], find_faces: bool = False
) -> Generator[tuple[Row, ...]]:
    """Decode samples ahead of the model.

    Args:
        card: The description of the model.
        members: Path and bytes of each sample's inputs, by input; an OSError replaces bytes that could not be read.
        find_faces: Whether to find and crop the faces of each picture; see ``require_known_crops``.

    Yields:
        The rows of each sample in order: one, or one a face.
    """
    paths: deque[str] = deque()

    def raw() -> Iterator[Raw]:
        for row, (path, data) in enumerate(members):
            paths.append(_printable(path))
            yield Raw(row, data)

    with closing(_found(card, raw()) if find_faces else _whole(card, raw())) as outcomes:
        for outcome in outcomes:
            path = paths.popleft()
            yield tuple(Row(path, place, each) for place, each in outcome)


def _whole(card: ModelCard, raw: Iterator[Raw]) -> Generator[Placed]:
    size = bytes_of_sample(card)
    chunk = min(CHUNK, max(1, CHUNK_BYTES // size))
    ahead = max(2, BYTES_AHEAD // (chunk * size * available_cores()))
    work = functools.partial(decode, card.inputs)
    with closing(in_processes(raw, work, chunk=chunk, in_flight=ahead)) as outcomes:
        for outcome in outcomes:
            yield [(None, outcome)]


def _found(card: ModelCard, raw: Iterator[Raw]) -> Generator[Placed]:
    from manyheads.prediction.face_crops import CALIBRATIONS
    from manyheads.prediction.face_finding import find

    work = functools.partial(find, card.inputs, CALIBRATIONS[card.data])
    with closing(in_processes(raw, work, chunk=PICTURES_AT_ONCE)) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, Refused):
                yield [(("",) * len(PLACE), outcome)]
            else:
                yield [((number, *each.face.box), each.outcome) for number, each in enumerate(outcome, 1)]


def _printable(path: str) -> str:
    r"""Return a path as valid UTF-8 for a CSV, with other bytes written as ``\xff``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
