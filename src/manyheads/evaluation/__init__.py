"""What predictions are worth: metrics with their intervals, by group, calibrated or not. No TensorFlow, no files."""
