"""The import of TensorFlow without its log messages, and the session of a training."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from manyheads.errors import MachineError


def require_tensorflow() -> None:
    """Import Keras on TensorFlow without TensorFlow's log messages.

    Raises:
        MachineError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with buffered_output():
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"TensorFlow is not installed ({error}): `make install`, or pip install 'manyheads[cpu]' (or [gpu])"
        ) from error


def start_training_session(deterministic: bool) -> None:
    """Delete the models of earlier trainings in this process, and optionally make operations deterministic.

    Args:
        deterministic: Whether the same seed gives bit-equal weights on the same machine; operations take longer.

    Raises:
        MachineError: TensorFlow is not installed.
    """
    require_tensorflow()
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    if deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def buffered_output() -> Iterator[None]:
    """Buffer the file descriptors of standard output and standard error, and show the buffer only if the body fails.

    TensorFlow's libraries log to them while they are loaded, before their settings take effect, and so do converters.
    """
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    stdout, stderr = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(stderr, written.read())
            raise
        finally:
            for stream in streams:
                stream.flush()
            for saved, descriptor in ((stdout, 1), (stderr, 2)):
                os.dup2(saved, descriptor)
                os.close(saved)
