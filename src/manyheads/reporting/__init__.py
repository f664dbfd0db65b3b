"""Reporting: pages, plots, cards and tables on the terminal. It shows metrics and computes none."""
