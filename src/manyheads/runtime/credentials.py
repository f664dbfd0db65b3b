"""Credentials, kept out of everything that people or files get to see.

An address may carry user and password, and whoever fails to reach it quotes it: MLflow, a database driver, an HTTP
library. So whole texts are masked where they leave the program, whatever they are made of.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from types import TracebackType
from urllib.parse import quote, unquote

MASK = "***"

# User and password stand between the scheme's slashes and the last @ before the path.
_USER_INFO = re.compile(r"(?<=://)[^/\s?#'\"]*@")
# A password may also stand among an address's parameters.
_PARAMETER = re.compile(r"(?i)\b((?:password|passwd|pwd|token|secret|access_key|secret_key|sslpassword)=)[^&\s'\"]+")

_SECRET_VARIABLES = re.compile(r"(?i)password|passwd|token|secret")
_ADDRESS_VARIABLES = re.compile(r"(?i)ur[il]$|endpoint|proxy")

SHORTEST = 4
"""Shorter values are masked in addresses alone: as words they stand in too many innocent texts."""


def masked(text: str) -> str:
    """Return a text without user names and passwords of addresses, nor secrets of the environment."""
    text = _USER_INFO.sub(f"{MASK}@", text)
    text = _PARAMETER.sub(rf"\1{MASK}", text)
    for secret in _secrets():
        text = text.replace(secret, MASK)
    return text


def _secrets() -> list[str]:
    """Return what the environment holds back, as it is written and as it is meant, the longest first."""
    found: set[str] = set()
    for name, value in os.environ.items():
        if _SECRET_VARIABLES.search(name):
            found |= {value, unquote(value)}
        elif _ADDRESS_VARIABLES.search(name):
            found |= _passwords(value)
    return sorted((secret for secret in found if len(secret) >= SHORTEST), key=len, reverse=True)


def _passwords(address: str) -> set[str]:
    # Not urllib's reading: a password with a slash or an @ that nobody escaped is one all the same.
    found = re.match(r"[^:]+://[^:@/]*:(.+)@", address)
    return {found[1], unquote(found[1]), quote(unquote(found[1]), safe="")} if found else set()


class _MaskingFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


def log_to_stderr(style: str) -> None:
    """Write the log to standard error, tracebacks among it, without credentials.

    Args:
        style: What a line is, in the words of ``logging.Formatter``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_MaskingFormatter(style))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def mask_tracebacks() -> None:
    """Have what Python prints of an error that nobody caught go without credentials, too."""

    def show(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
        print(masked("".join(traceback.format_exception(kind, error, where))), file=sys.stderr, end="")

    sys.excepthook = show
