"""Commands other than the stages, a module each."""
