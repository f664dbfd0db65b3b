"""Predictions for new samples: from their bytes to values, notes and errors, with faces in photographs if asked.

The command ``predict``, the server and the model in MLflow all take this way, so they give the same figures.
"""
