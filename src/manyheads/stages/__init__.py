"""Stages of the DVC pipeline: source, parse, pack, split, audit, train, evaluate and report, a module each."""
