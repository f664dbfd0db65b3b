"""Numbers that judge predictions: what they are, and how they are named for people."""
