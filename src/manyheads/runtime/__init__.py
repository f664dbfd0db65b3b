"""Files, locks, progress, signals, credentials, hardware and the TensorFlow session."""
