"""The model of a run: what `python -m manyheads predict` says of samples, as a function of a data frame.

MLflow runs this file when it loads the model. Before that it puts the code that came with the model, the folder
`code/` beside this file, on Python's path. The network and its description lie in `artifacts/model/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel


class Answering(PythonModel):
    """The answers of every head by name, and the reason if a sample cannot be read."""

    def load_context(self, context: Any) -> None:
        """Load the network, which takes seconds."""
        from manyheads.modeling import saving
        from manyheads.prediction.answers import AnsweringModel

        extensions = context.model_config["extensions"]
        self.model = AnsweringModel(saving.load(Path(context.artifacts["model"]), extensions))

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return a row for each sample: the columns of every head, `note` and `error`.

        Args:
            context: Not used.
            model_input: A column for each input, by its name: the bytes of a file, a text, a number or numbers.
            params: Not used.
        """
        from manyheads.prediction.frames import answered

        del context, params
        return answered(self.model, model_input)


set_model(Answering())
