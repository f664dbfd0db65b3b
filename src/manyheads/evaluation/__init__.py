"""Evaluation: metrics with intervals, by group, calibration, and comparisons. It needs no TensorFlow and no files."""
