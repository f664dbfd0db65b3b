"""Masking of credentials in logs, errors and files.

An address may contain a user name and a password. Errors of MLflow, of a database driver or of an HTTP library may
quote the address. Texts are therefore masked where they leave the program.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from types import TracebackType
from urllib.parse import quote, unquote

from manyheads.runtime.printing import printable

MASK = "***"

# User and password are between the slashes of the scheme and the last @ before the path.
_USER_INFO = re.compile(r"(?<=://)[^/\s?#'\"]*@")
# A password may also be a parameter of an address.
_PARAMETER = re.compile(r"(?i)\b((?:password|passwd|pwd|token|secret|access_key|secret_key|sslpassword)=)[^&\s'\"]+")

_SECRET_VARIABLES = re.compile(r"(?i)password|passwd|token|secret")
_ADDRESS_VARIABLES = re.compile(r"(?i)ur[il]$|endpoint|proxy")

SHORTEST = 4
"""Smallest length of a secret that is masked outside of addresses; a shorter one occurs in too many harmless texts."""


def masked(text: str) -> str:
    """Return a text without the credentials of addresses and the secrets of the environment.

    Example:
        >>> masked("cannot reach postgresql://ann:secret@db/runs")
        'cannot reach postgresql://***@db/runs'
    """
    text = _USER_INFO.sub(f"{MASK}@", text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return text


def _secrets() -> list[str]:
    """Return the secrets in the environment, raw and URL-decoded, the longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET_VARIABLES.search(name):
            found |= {value, unquote(value)}
        elif _ADDRESS_VARIABLES.search(name):
            found |= _passwords(value)
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def _passwords(address: str) -> set[str]:
    # Urllib does not recognize a password with an unescaped slash or @.
    found = re.match(r"[^:]+://[^:@/]*:(.+)@", address)
    return {found[1], unquote(found[1]), quote(unquote(found[1]), safe="")} if found else set()


class _MaskingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(masked(super().format(record)), kept="\n\t")


def log_to_stderr(style: str) -> None:
    """Write the log and its tracebacks to standard error, with credentials masked.

    Args:
        style: Format of a line, as in ``logging.Formatter``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MaskingFormatter(style))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.raiseExceptions = False  # a log that cannot be written would print the error in hand, unmasked


def mask_tracebacks() -> None:
    """Mask credentials in the traceback of an uncaught error."""

    def show(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        print(masked("".join(traceback.format_exception(kind, error, where))), file=sys.stderr, end="")

    sys.excepthook = show
