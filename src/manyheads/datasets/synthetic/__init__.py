"""Synthetic datasets, which the project generates from a fixed seed. Each module defines one as ``DATASET``."""
