"""TensorFlow: imported without its announcements, and set up for a training."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from manyheads.errors import MachineError


def require_tensorflow() -> None:
    """Import Keras on TensorFlow without TensorFlow's announcements.

    Raises:
        MachineError: TensorFlow is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    try:
        with _stderr_held_back():
            import keras  # noqa: F401
            import tensorflow  # noqa: F401
    except ImportError as error:
        raise MachineError(
            f"TensorFlow is not installed ({error}): `make install`, or pip install 'manyheads[cpu]' (or [gpu])"
        ) from error


def start_training_session(deterministic: bool) -> None:
    """Forget the models of earlier trainings in this process, and ask for deterministic operations if wanted.

    Args:
        deterministic: Whether the same seed gives bit-equal weights on the same machine; it takes some time.
    """
    require_tensorflow()
    import keras
    import tensorflow as tf

    keras.backend.clear_session()
    if deterministic:
        tf.config.experimental.enable_op_determinism()


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Hold back what is written to standard error below Python, and show it only if the body fails.

    TensorFlow's libraries log to it while they are loaded, before any setting of theirs counts.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), 2)
        try:
            yield
        except BaseException:
            written.seek(0)
            os.write(kept, written.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
