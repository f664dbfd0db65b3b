"""Label reading, decoding, packing, the search of duplicates, and the split."""
