"""TODO sweeps."""
