"""An empty MLflow store for tests to copy, because making its tables takes seconds."""

import atexit
import functools
import logging
import shutil
import tempfile
from pathlib import Path


@functools.cache
def empty_store() -> Path:
    """Return a SQLite store with all tables and no run; it is deleted when the tests end."""
    import mlflow

    logger = logging.getLogger("mlflow.store.db.utils")
    logger.setLevel(logging.WARNING)  # it says that it makes tables
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments(max_results=1)
    logger.setLevel(logging.NOTSET)
    return folder / "mlflow.db"
