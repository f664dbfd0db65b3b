"""Experiment tracking: MLflow runs and queries, git provenance, and DVC's description of the pipeline."""
