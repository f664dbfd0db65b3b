"""TODO modeling."""
