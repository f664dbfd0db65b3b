"""What a request is refused with: a status, a stable code and a reason."""

from __future__ import annotations

from manyheads.preprocessing.decoding import Refused

RETRY_SECONDS = 1
"""When a client may come again that is refused because there is too much to do."""


class Problem(Exception):  # noqa: N818 - an answer to a client, not a fault of the program
    """A refused request.

    Attributes:
        status: The HTTP status.
        code: A stable code, such as ``QUEUE_FULL``.
        reason: Description of the problem for people.
    """

    def __init__(self, status: int, code: str, reason: str) -> None:
        super().__init__(status, code, reason)
        self.status = status
        self.code = code
        self.reason = reason

    @property
    def body(self) -> dict[str, str]:
        """The JSON body of the answer."""
        return {"code": self.code, "reason": self.reason}

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        retry = {"Retry-After": str(RETRY_SECONDS)} if self.status == 503 else {}
        # The body may not have been read to its end, which may never come. That of a sample was.
        return retry if self.status == 422 else {**retry, "Connection": "close"}


def of_refusal(refused: Refused) -> Problem:
    """Return the problem of a sample that cannot be read."""
    return Problem(413 if refused.code == "PIXELS_LIMIT" else 422, refused.code, refused.reason)
