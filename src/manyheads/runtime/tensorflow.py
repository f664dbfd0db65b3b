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
        with _buffered_stderr():
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
def _buffered_stderr() -> Iterator[None]:
    """Buffer the file descriptor of standard error, and write the buffer out only if the body fails.

    TensorFlow's libraries log to it while they are loaded, before their settings take effect.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(stderr, written.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
