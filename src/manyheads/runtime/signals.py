"""Handlers of Ctrl-C and SIGTERM that also record the signal.

A KeyboardInterrupt can be lost in a callback of C code or in a bare ``except`` of a library. The handlers therefore
record the signal, and ``raise_if_interrupted`` raises it again.
"""

import signal

_received = False


def install_handlers() -> None:
    """Turn both signals into KeyboardInterrupt; only the main thread may call this function."""
    global _received
    _received = False
    signal.signal(signal.SIGINT, _record)
    signal.signal(signal.SIGTERM, _record)


def _record(*_: object) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if the process has received Ctrl-C or SIGTERM."""
    if _received:
        raise KeyboardInterrupt
