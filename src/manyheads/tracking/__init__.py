"""Experiment tracking: MLflow runs and queries, git provenance, and what DVC's files say of the pipeline."""
