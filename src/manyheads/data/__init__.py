"""Tables, packed arrays and subsets that the stages exchange."""
