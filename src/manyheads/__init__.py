"""Experiment tracking for multi-head Keras models, run as DVC stages."""
