import contextlib
import os
import signal

import pytest

from manyheads.runtime import signals


@pytest.fixture(autouse=True)
def _handlers():
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # `nohup pytest` ignores it
    signals.install_handlers()
    yield
    signals.install_handlers()
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_that_a_library_swallows_is_raised_later(number):
    signals.raise_if_interrupted()
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        signals.raise_if_interrupted()


def test_a_new_command_starts_without_the_old_interrupt():
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    signals.install_handlers()
    signals.raise_if_interrupted()
