"""The limits of the server."""

from __future__ import annotations

from typing import NamedTuple

from manyheads.modeling.inference import PREDICTION_BATCH


class Limits(NamedTuple):
    """How much the server takes.

    Attributes:
        body: Largest body of a request in bytes.
        bodies: Largest sum of the bodies that are in memory, in bytes.
        samples: Largest number of samples of a request.
        waiting: Largest number of samples that wait for their answers.
        body_seconds: Longest time for a body to arrive.
        header_seconds: Longest time for the headers of a request to arrive.
        decode_seconds: Longest time for the decoding of a sample, or for the search of a picture for faces.
    """

    body: int = 20_000_000
    bodies: int = 200_000_000
    samples: int = 4 * PREDICTION_BATCH
    waiting: int = 16 * PREDICTION_BATCH
    body_seconds: float = 60.0
    header_seconds: float = 15.0
    decode_seconds: float = 15.0
