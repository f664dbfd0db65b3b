"""Faces in photographs: their detection, and crops as a dataset of aligned faces has them. Only predict uses it."""
