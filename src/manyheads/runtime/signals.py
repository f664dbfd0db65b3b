"""Handlers of Ctrl-C, SIGTERM and SIGHUP, of a terminal that is closed, that also record the signal.

A KeyboardInterrupt can be lost in a callback of C code or in a bare ``except`` of a library. The handlers therefore
record the signal, and ``raise_if_interrupted`` raises it again.
"""

import signal

_received = False


def install_handlers() -> None:
    """Turn the signals into KeyboardInterrupt; only the main thread may call this function.

    A signal SIGHUP that is ignored stays so: ``nohup`` starts a command that outlives its terminal.
    """
    global _received
    _received = False
    signal.signal(signal.SIGINT, _record)
    signal.signal(signal.SIGTERM, _record)
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _record)


def _record(*_: object) -> None:
    global _received
    _received = True
    raise KeyboardInterrupt


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if the process has received one of the signals."""
    if _received:
        raise KeyboardInterrupt
