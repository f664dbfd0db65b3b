"""Datasets that the project makes itself from a fixed seed; one module for each, with its ``DATASET``."""
