"""What predictions are worth: figures with their intervals, by group, calibrated or not. No TensorFlow, no files."""
