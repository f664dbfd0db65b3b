import contextlib
import os
import signal

import pytest

from manyheads import interruption


@pytest.fixture(autouse=True)
def _handlers():
    before = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    interruption.listen()
    yield
    interruption.listen()
    for number, handler in before:
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_a_library_swallows_is_heeded_later(number):
    interruption.heed()
    with contextlib.suppress(BaseException):
        os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        interruption.heed()


def test_a_new_command_starts_without_the_old_interrupt():
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    interruption.listen()
    interruption.heed()
