"""Commands that a person types beside the stages; a file for each."""
