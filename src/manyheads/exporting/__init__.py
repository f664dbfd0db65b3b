"""Export of a saved model to files for other runtimes, with the measured difference between the two."""
