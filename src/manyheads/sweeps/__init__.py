"""Sweeps and searches: many trainings, each a trial whose state is kept in a folder, and their comparison."""
