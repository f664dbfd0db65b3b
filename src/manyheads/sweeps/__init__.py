"""Sweeps: many trainings, each a trial in a folder that says how it ended, and their comparison."""
