"""Ctrl-C and SIGTERM, remembered: an exception that a signal raises can be lost in a library.

Where Python runs within a callback of C code, or under somebody's bare ``except``, a KeyboardInterrupt ends nothing.
So it is also noted, and raised again at the next place that heeds it.
"""

import signal

_received = False


def install_handlers() -> None:
    """Turn both signals into KeyboardInterrupt; only the main thread may ask for it."""
    global _received
    _received = False
    signal.signal(signal.SIGINT, _note)
    signal.signal(signal.SIGTERM, _note)


def _note(*_: object) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if a signal has come."""
    if _received:
        raise KeyboardInterrupt
