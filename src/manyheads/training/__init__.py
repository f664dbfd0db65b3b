"""A single training: run, loop, batches, checkpoint, fingerprint, optimizer, display, and its MLflow run."""
