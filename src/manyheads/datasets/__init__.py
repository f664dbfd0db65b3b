"""Datasets: where labels come from and how the raw data comes to be there; one file for each."""
